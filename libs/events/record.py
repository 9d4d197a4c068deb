"""An order as Redis keeps it: the last event of each type, and where all of them are.

What an event changes in an order depends on nothing but the event (`libs.events.order`), so the last of each type fold
to the same order as all of them. Nothing of an order is kept that is not an event, and each step writes its own only.

Fields of the hash: `user`, `version`, `status`, `last` (type of the last event), `trail` (ids of all entries), and one
for each type of event there was: `v version source time cause traceparent data`, with a space between.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import attrgetter

from libs.events.envelope import Envelope, event_of
from libs.events.log import Snapshot
from libs.events.model import OrderRequested, UnknownEvent
from libs.events.order import Order, fold_latest
from libs.events.trusted import trusted

# What stays of an order that ended and is archived: that it was. Earlier releases left its trail, too.
RETIRED_FIELDS = frozenset({"version"})
_LEFT = RETIRED_FIELDS | {"trail"}
_OWN = frozenset({"user", "version", "status", "last", "trail", "subject", "id", "type", "traceparent"})
_PACKED = ("v", "version", "source", "time", "cause", "traceparent", "data")


def record(order: Order, entries: Sequence[Mapping[str, str]], trail: str) -> dict[str, str]:
    """The hash of an order with these events, given as the flat fields of all its entries."""
    own = {
        "user": order.user,
        "version": str(order.version),
        "status": order.status.value,
        "last": entries[-1]["type"],
        "trail": trail,
    }
    return own | {fields["type"]: " ".join(fields.get(name, "") for name in _PACKED) for fields in entries}


def item_fields(last: Mapping[str, str]) -> dict[str, str]:
    """A work item: which order, and the event to act on, given as the flat fields of its entry."""
    return {name: last.get(name, "") for name in ("subject", "version", "id", "type", "traceparent")}


def snapshot(order_id: str, fields: Mapping[str, str]) -> Snapshot | None:
    """Read an order's hash; None when it is empty, or the order was let go.

    Raises:
        ValueError: the fields are not an order's.
    """
    if fields.keys() <= _LEFT:
        return None
    try:
        user, version, last = fields["user"], fields["version"], fields["last"]
    except KeyError as missing:
        raise ValueError(f"field {missing} is missing") from None
    events = sorted(
        (_unpack(order_id, user, name, packed) for name, packed in fields.items() if name not in _OWN),
        key=attrgetter("version"),
    )
    if not events or events[-1].type != last or str(events[-1].version) != version:
        raise ValueError(f"its last event, {last} of version {version}, is not there")
    if isinstance(events[0].data, UnknownEvent):
        raise ValueError("this release does not know how it begins")
    if not isinstance(events[0].data, OrderRequested):
        raise ValueError(f"it begins with {events[0].type}")
    return Snapshot(fold_latest(events), events[-1])


def _unpack(order_id: str, user: str, name: str, packed: str) -> Envelope:
    v, version, source, time, cause, traceparent, data = packed.split(" ", len(_PACKED) - 1)
    return trusted(
        Envelope,
        {
            "id": f"{order_id}/{version}",
            "type": name,
            "v": int(v),
            "source": source,
            "subject": order_id,
            "user": user,
            "version": int(version),
            "time": datetime.fromisoformat(time),
            "cause": cause,
            "traceparent": traceparent,
            "data": event_of(name, int(v), data),
        },
    )
