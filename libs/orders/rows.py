"""Entries and orders as rows, and back: plain functions, no database."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from libs.events.envelope import FIELD_NAMES, Envelope
from libs.events.errors import LogMismatch
from libs.events.ids import Position
from libs.events.log import Entry
from libs.events.model import UnknownEvent

EVENT_COLUMNS = (
    "partition",
    "position",
    "version",
    "ms",
    "time",
    "order_id",
    "v",
    "epoch",
    "type",
    "source",
    "user_id",
    "cause",
    "traceparent",
    "data",
    "extra",
)
ORDER_COLUMNS = (
    "id",
    "user_id",
    "version",
    "status",
    "token_in",
    "token_out",
    "amount_in",
    "amount_out",
    "created_at",
    "updated_at",
    "client_order_id",
    "latest",
)
# Where the fields of an entry are kept.
EVENT_COLUMN_OF = {name: {"subject": "order_id", "user": "user_id"}.get(name, name) for name in FIELD_NAMES}
REASON_CHARS_MAX = 500

Values = tuple[object, ...]

_FIELDS = frozenset(FIELD_NAMES)
_ORDER_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# How our own writers spell a time; any other spelling is kept beside the column.
PLAIN_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


class Undecodable(LogMismatch):
    """An entry that is not an event: something other than the commit script wrote to the log; an operator must look."""

    def __init__(self, entry: Entry, reason: object) -> None:
        text = " ".join(str(reason).split())[:REASON_CHARS_MAX]
        super().__init__(f"partition {entry.partition}, entry {entry.at} is not an event: {text}")
        self.partition, self.at = entry.partition, entry.at


def decode(entry: Entry) -> Envelope:
    """The entry's event, fit to be archived.

    Raises:
        Undecodable: with the place and the reason.
    """
    try:
        event = entry.decode()
        if not is_order_id(event.subject):
            raise ValueError(f"{event.subject!r} is not an order id")
        if isinstance(event.data, UnknownEvent):
            orjson.loads(event.data.raw)  # what we do not know must at least be JSON: readers rely on it
    except (ValueError, TypeError) as error:
        raise Undecodable(entry, error) from error
    return event


def event_row(entry: Entry, event: Envelope, epoch: str) -> Values:
    """Values for EVENT_COLUMNS."""
    return (
        entry.partition,
        entry.at.position,
        event.version,
        entry.at.ms,
        event.time,
        event.subject,
        event.v,
        epoch,
        event.type,
        event.source,
        event.user,
        event.cause,
        event.traceparent,
        entry.fields["data"],
        extra_of(entry.fields, event),
    )


def is_order_id(text: str) -> bool:
    """Whether it is an id as the archive gives it back: a UUID in lower case."""
    return _ORDER_ID.fullmatch(text) is not None


def entry_of(row: Mapping[str, Any]) -> Entry:
    """The entry as it was in the log, to the byte."""
    order_id, version = str(row["order_id"]), row["version"]
    fields: dict[str, str | None] = {
        "id": f"{order_id}/{version}",
        "type": row["type"],
        "v": str(row["v"]),
        "source": row["source"],
        "subject": order_id,
        "user": row["user_id"],
        "version": str(version),
        "time": _time(row["time"]),
        "cause": row["cause"],
        "traceparent": row["traceparent"],
        "data": row["data"],
    }
    if row["extra"]:
        fields |= orjson.loads(row["extra"])
    kept = {name: value for name, value in fields.items() if value is not None}
    return Entry(row["partition"], Position(row["ms"], row["position"]), kept)


def columns(rows: Iterable[Values]) -> list[Values]:
    """Rows turned into one sequence per column, as UNNEST takes them; there must be at least one row."""
    return list(zip(*rows, strict=True))


def extra_of(fields: Mapping[str, str], event: Envelope) -> str | None:
    """What the columns cannot give back, as JSON; None, nearly always, when they can."""
    is_plain = (  # this order: what differs first decides, and nothing is formatted that need not be
        fields.keys() == _FIELDS
        and fields["version"] == str(event.version)
        and fields["v"] == str(event.v)
        and fields["id"] == f"{event.subject}/{event.version}"
        and PLAIN_TIME.fullmatch(fields["time"]) is not None
    )
    return None if is_plain else _extra(fields, event)


def _extra(fields: Mapping[str, str], event: Envelope) -> str:
    """What the columns cannot give back: other spellings, fields of a newer release; null: the field is not there."""
    plain = {**event.fields(), "data": fields["data"]}
    changed: dict[str, str | None] = {name: value for name, value in fields.items() if plain.get(name) != value}
    changed.update((name, None) for name in plain if name not in fields)
    return orjson.dumps(changed).decode()


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
