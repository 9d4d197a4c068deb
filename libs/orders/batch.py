"""A piece of the log on its way into Postgres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from libs.events.errors import PositionGap
from libs.events.ids import Position
from libs.events.log import Entry


class Placed(Protocol):
    """What has a place in the log."""

    @property
    def partition(self) -> int: ...

    @property
    def at(self) -> Position: ...


Piece = TypeVar("Piece", bound=Placed)


@dataclass(frozen=True, slots=True)
class Stretch(Generic[Piece]):
    """What was read after `after`: of any of its partitions, in order per partition. At least one entry."""

    after: Mapping[int, Position]
    entries: Sequence[Piece]

    def until(self) -> dict[int, Position]:
        """The last position of each partition that has entries.

        Raises:
            PositionGap: an entry is missing.
        """
        ends: dict[int, Position] = {}
        for entry in self.entries:
            last = ends.get(entry.partition, self.after[entry.partition])
            if entry.at.position != last.position + 1:
                raise PositionGap(entry.partition, last.position + 1, entry.at.position)
            ends[entry.partition] = entry.at
        return ends


class Batch(Stretch[Entry]):
    """Entries as they are in the log."""

    __slots__ = ()
