"""Entries and orders as rows, and back: plain functions, no database."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from libs.events.errors import LogMismatch
from libs.events.ids import Position
from libs.events.log import Entry
from libs.events.model import Envelope, UnknownEvent
from libs.events.order import Order

# In the order of the columns; the SQL in `libs.orders.sql` is written from it.
EVENT_COLUMNS = {
    "partition": "smallint",
    "position": "bigint",
    "version": "integer",
    "ms": "bigint",
    "time": "timestamptz",
    "order_id": "uuid",
    "v": "smallint",
    "type": "text",
    "source": "text",
    "user_id": "text",
    "cause": "text",
    "traceparent": "text",
    "data": "json",
    "extra": "json",
}
ORDER_COLUMNS = {
    "id": "uuid",
    "user_id": "text",
    "version": "integer",
    "status": "text",
    "token_in": "text",
    "token_out": "text",
    "amount_in": "numeric",
    "amount_out": "numeric",
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
    "state": "json",
}
REASON_CHARS_MAX = 500


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
        UUID(event.subject)
        if isinstance(event.data, UnknownEvent):
            orjson.loads(
                event.data.raw
            )  # what we do not know must at least be JSON: the archive says so to its readers
    except (ValueError, TypeError) as error:
        raise Undecodable(entry, error) from error
    return event


def event_row(entry: Entry, event: Envelope) -> tuple[object, ...]:
    """Values for EVENT_COLUMNS."""
    data = entry.fields["data"]
    return (
        entry.partition,
        entry.at.position,
        event.version,
        entry.at.ms,
        event.time,
        UUID(event.subject),
        event.v,
        event.type,
        event.source,
        event.user,
        event.cause,
        event.traceparent,
        data,
        _extra(entry.fields, _plain_fields(event, data)),
    )


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


def order_row(order: Order) -> tuple[object, ...]:
    """Values for ORDER_COLUMNS."""
    return (
        UUID(order.id),
        order.user,
        order.version,
        order.status.value,
        order.token_in,
        order.token_out,
        order.amount_in,
        order.amount_out,
        order.created_at,
        order.updated_at,
        order.model_dump_json(),
    )


def columns(rows: Iterable[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Rows turned into one sequence per column, as UNNEST takes them; there must be at least one row."""
    return list(zip(*rows, strict=True))


def _plain_fields(event: Envelope, data: str) -> dict[str, str]:
    """What `entry_of` makes of the columns alone."""
    return {
        "id": f"{event.subject}/{event.version}",
        "type": event.type,
        "v": str(event.v),
        "source": event.source,
        "subject": event.subject,
        "user": event.user,
        "version": str(event.version),
        "time": _time(event.time),
        "cause": event.cause,
        "traceparent": event.traceparent,
        "data": data,
    }


def _extra(fields: Mapping[str, str], plain: Mapping[str, str]) -> str | None:
    """What the columns cannot give back: other spellings, fields of a newer release; null: the field is not there."""
    if fields == plain:
        return None
    changed: dict[str, str | None] = {name: value for name, value in fields.items() if plain.get(name) != value}
    changed.update((name, None) for name in plain if name not in fields)
    return orjson.dumps(changed).decode()


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
