"""What Postgres makes of a packed row, read without it."""

import io
from datetime import UTC, datetime, timedelta
from uuid import UUID

from libs.events.log import Entry
from libs.orders.packing import packed
from libs.orders.rows import EVENT_COLUMNS, decode


def archive_row(entry: Entry, epoch: str = "e1") -> dict[str, object]:
    """The entry's row: the number of its columns, then each with its size before it (-1: null)."""
    rest = io.BytesIO(packed([entry], [decode(entry)], epoch))
    assert int.from_bytes(rest.read(2)) == len(EVENT_COLUMNS)
    values: dict[str, object] = {}
    for name in EVENT_COLUMNS:
        size = int.from_bytes(rest.read(4), signed=True)
        values[name] = None if size < 0 else _value(name, rest.read(size))
    assert not rest.read()
    return values


def _value(name: str, raw: bytes) -> object:
    match name:
        case "partition" | "position" | "version" | "ms" | "v":
            return int.from_bytes(raw, signed=True)
        case "time":
            return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=int.from_bytes(raw, signed=True))
        case "order_id":
            return UUID(bytes=raw)
        case _:
            return raw.decode()
