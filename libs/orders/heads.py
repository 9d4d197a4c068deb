"""What of an entry the projection needs: where it belongs, and what it changes in an order's row.

Bodies are not made into events here: that they are JSON and have the members their type must have is all that is asked
of them before they are archived. Whoever reads them later looks closer.
"""

from datetime import datetime
from functools import cache, lru_cache
from typing import NamedTuple, cast

import orjson

from libs.events.envelope import FIELD_NAMES, event_of
from libs.events.ids import Position
from libs.events.log import Entry
from libs.events.model import EVENT_TYPES, Event, OrderRequested, TxConfirmed
from libs.events.upcast import upcast
from libs.orders.rows import PLAIN_TIME, Undecodable, decode, is_order_id

# Other spellings of these numbers are rare enough to be read the long way.
_NUMBERS = {str(number): number for number in range(1, 10_000)}
UNREADABLE = (ValueError, TypeError, AttributeError)


BodyFacts = tuple[bool, OrderRequested | None, int | None]


class Head(NamedTuple):
    """What the projection needs of an event.

    `known`: this release understands it. `request` and `amount_out` are what its row will say, if it says any of it.
    """

    partition: int
    at: Position
    order_id: str
    user: str
    version: int
    type: str
    v: int
    time: datetime
    known: bool
    request: OrderRequested | None = None
    amount_out: int | None = None


def head_of(entry: Entry) -> tuple[Head, tuple[str, ...] | None]:
    """The head, and the entry's values as the archive's plain columns have them; None: it needs `rows.event_row`.

    Raises:
        Undecodable: it is no event; with the place and the reason.
    """
    fields = entry.fields
    if tuple(fields) != FIELD_NAMES:
        return _spelled_otherwise(entry), None
    values = tuple(fields.values())
    event_id, kind, v_text, _, order_id, user, version_text, time_text, _, _, data = values
    v, version, time = _NUMBERS.get(v_text), _NUMBERS.get(version_text), plain_time(time_text)
    if v is None or version is None or time is None or event_id != f"{order_id}/{version_text}":
        return _spelled_otherwise(entry), None
    # Later versions go on with an order that is there, under its own id.
    if version == 1 and not is_order_id(order_id):
        return _spelled_otherwise(entry), None
    try:
        known, request, amount_out = read_body(kind, v, data)
    except UNREADABLE as error:
        raise Undecodable(entry, error) from error
    return Head(entry.partition, entry.at, order_id, user, version, kind, v, time, known, request, amount_out), values


def _spelled_otherwise(entry: Entry) -> Head:
    event = decode(entry)
    try:
        told = read_body(event.type, event.v, entry.fields["data"])
    except UNREADABLE as error:
        raise Undecodable(entry, error) from error
    place = (entry.partition, entry.at, event.subject, event.user, event.version, event.type, event.v, event.time)
    return Head(*place, *told)


def read_body(kind: str, v: int, data: str) -> BodyFacts:
    """What a head takes from the body: whether it is known, the request, the amount out.

    Raises:
        UNREADABLE: it is not JSON, or not what its type must be.
    """
    model = EVENT_TYPES.get(kind)
    if model is None or v > model.SCHEMA_VERSION:
        orjson.loads(data)  # readers rely on it being JSON, whatever it says
        return False, None, None
    if model is OrderRequested:
        return True, cast("OrderRequested", event_of(kind, v, data)), None
    body = orjson.loads(data if v == model.SCHEMA_VERSION else upcast(kind, v, model.SCHEMA_VERSION, data))
    if missing := _required(model) - body.keys():
        raise ValueError(f"{kind} without {', '.join(sorted(missing))}")
    return True, None, int(body["amount_out"]) if model is TxConfirmed else None


def is_known(kind: str, v: int) -> bool:
    """Whether this release understands this version of the type."""
    model = EVENT_TYPES.get(kind)
    return model is not None and v <= model.SCHEMA_VERSION


@lru_cache(maxsize=4_096)  # the events of one batch share their time
def plain_time(text: str) -> datetime | None:
    """A time as our own writers spell it: the one spelling that a column gives back."""
    try:
        return datetime.fromisoformat(text) if PLAIN_TIME.fullmatch(text) else None
    except ValueError:
        return None


@cache
def _required(model: type[Event]) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if field.is_required())
