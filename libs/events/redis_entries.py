"""Entries as Redis replies with them: an id and a flat list of names and values. What nobody wants is not unpacked."""

from collections.abc import Mapping, Sequence
from typing import Any

from libs.events.ids import Position
from libs.events.log import Entry, Only
from libs.events.redis_client import as_dict

Row = Sequence[Any]

ALWAYS_WRITTEN = frozenset({"id", "type", "v", "source", "subject", "user", "version", "time", "data"})

# Where the commit script writes them: the order of `libs.events.envelope.FIELD_NAMES`.
_SUBJECT, _USER = 8, 10


def find_hole(rows: Sequence[Row], last: int) -> tuple[int, Position] | None:
    """The position that is missing after `last`, and the one found instead."""
    for expected, (entry_id, _) in enumerate(rows, start=last + 1):
        separator = b"-" if isinstance(entry_id, bytes) else "-"
        if int(entry_id.partition(separator)[2]) != expected:
            return expected, Position.parse(text(entry_id))
    return None


def is_wanted(row: Row, only: Only) -> bool:
    """Whether a raw entry is."""
    flat = row[1]
    if flat[_SUBJECT] == b"subject" and flat[_USER] == b"user":
        return only(text(flat[_USER + 1]), text(flat[_SUBJECT + 1]))
    fields = _fields(flat)  # written in another order, by another release
    return only(fields["user"], fields["subject"])


def entry_of(partition: int, row: Row) -> Entry:
    """The entry, raw or not."""
    entry_id, flat = row
    return Entry(partition, Position.parse(text(entry_id)), _fields(flat))


def is_strange(entry_id: str, fields: Mapping[str, str]) -> bool:
    """Whether nobody committed it: positions begin with 1, and Redis gives 0 to whoever names none."""
    return Position.parse(entry_id).position == 0 or not fields.keys() >= ALWAYS_WRITTEN


def text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _fields(flat: Sequence[Any]) -> dict[str, str]:
    if not flat or isinstance(flat[0], str):
        return as_dict(flat)
    # Decoded in one go: JSON holds no zero byte, and what does, by another hand, is done one by one.
    texts = b"\0".join(flat).decode(errors="replace").split("\0")
    return as_dict(texts if len(texts) == len(flat) else list(map(text, flat)))
