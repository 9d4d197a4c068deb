"""Which partition an order lives in, and the ids and cursors that say so."""

from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from uuid_utils import uuid7

PARTITIONS_MAX = 64
_PARTITION_DIGITS = 3


def partition_of_user(user_id: str, partitions: int) -> int:
    """All orders of one user live in one partition, so one user's events have one order and one cursor."""
    return crc32(user_id.encode()) % partitions


def new_order_id(partition: int) -> str:
    """A UUIDv7 whose last three hex digits are its partition."""
    return f"{str(uuid7())[:-_PARTITION_DIGITS]}{partition:03x}"


def partition_of(order_id: str) -> int:
    """The partition an order id names.

    Raises:
        ValueError: the text does not end in three hex digits of a possible partition.
    """
    partition = int(order_id[-_PARTITION_DIGITS:], 16)
    if not 0 <= partition < PARTITIONS_MAX:
        raise ValueError(f"{order_id!r} names partition {partition}; there are at most {PARTITIONS_MAX}")
    return partition


class Position(NamedTuple):
    """A place in one partition's log; `position` is contiguous from 1, `ms` never goes back."""

    ms: int
    position: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read `<ms>-<position>`.

        Raises:
            ValueError: the text is not of that shape.
        """
        ms, _, position = text.partition("-")
        return cls(int(ms), int(position))


START = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place a reader may come back to: `epoch:partition:ms-position`."""

    epoch: str
    partition: int
    at: Position

    def __str__(self) -> str:
        return f"{self.epoch}:{self.partition}:{self.at}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read a cursor.

        Raises:
            ValueError: the text is not a cursor.
        """
        epoch, partition, at = text.split(":")
        return cls(epoch, int(partition), Position.parse(at))
