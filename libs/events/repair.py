"""The log as a repair sees it: a port for the one process that may close and open the log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import uuid4

from libs.events.ids import Position
from libs.events.log import Entry, Reads
from libs.events.order import Order

KEPT = timedelta(hours=24)  # how long the log remembers ended orders, keys and lists: as in commit.lua
LAYOUT = "2"
# In these an order's hash held its whole state: the projector makes the hashes again, from the archive.
EARLIER_LAYOUTS = ("1",)


def layout_of(partitions: int, layout: str = LAYOUT) -> str:
    """How many partitions, which must not change while a log exists, and how it is kept."""
    return f"{layout}, {partitions} partitions"


def is_earlier(layout: str, partitions: int) -> bool:
    """Whether an earlier release kept a log of as many partitions so."""
    return layout in {layout_of(partitions, earlier) for earlier in EARLIER_LAYOUTS}


def new_epoch() -> str:
    """A name no other log has."""
    return uuid4().hex[:12]


@dataclass(frozen=True, slots=True)
class Held:
    """What Redis holds of one partition. `run`: where the fence stands, "" when it is down; `position`: meta's.

    `server_run`: of the server that holds it now; in a cluster each has its own. `length`: how many entries there are.
    """

    partition: int
    epoch: str
    layout: str
    run: str
    server_run: str
    position: int
    ms: int
    first: Position
    last: Position
    farthest_reader: int
    length: int

    @property
    def is_whole(self) -> bool:
        """Whether there is one entry for each position, from the first to the last."""
        return self.length == (self.last.position - self.first.position + 1 if self.length else 0)

    @property
    def is_as_committed(self) -> bool:
        """Whether the log has as many entries as were committed since its first, and ends with the last of them."""
        return self.is_whole and self.position in {-1, self.last.position}

    @property
    def is_open(self) -> bool:
        """Whether the server was checked since it was started, or since the partition came to it."""
        return self.run == self.server_run


@dataclass(frozen=True, slots=True)
class Restored:
    """An order as the archive knows it, with all its entries."""

    order: Order
    entries: Sequence[Entry]


class LogRepair(Protocol):
    """The writing is raw: nothing here checks a version, and everything may be done twice.

    Every write raises LogUnavailable, and does nothing, when another one closed the log since: who was frozen in the
    middle of a repair must not undo what was done meanwhile.
    """

    async def look(self) -> list[Held]:
        """Each partition as it is."""
        ...

    async def glance(self) -> list[Held]:
        """`look`, without the partitions whose Redis is away; one that is there at the least."""
        ...

    async def keeps_all(self) -> bool:
        """Whether a restart loses nothing: each write is on this very server's disk before its reply."""
        ...

    async def entry(self, partition: int, at: Position) -> Entry | None:
        """The entry of exactly this id."""
        ...

    async def close(self) -> list[Held]:
        """From now on nobody writes, not even a process that closed it before. Gives what `look` would have given."""
        ...

    async def open(self, held: Sequence[Held], epoch: str) -> None:
        """Let everybody write again to what was looked at.

        Raises:
            LogUnavailable: some server runs anew since, or this is not the log that was checked.
        """
        ...

    async def settle(self, partition: int, epoch: str, at: Position) -> None:
        """The log of the partition ends here and has this epoch."""
        ...

    async def empty_log(self, partition: int) -> None:
        """Drop all entries, and the memory of the last id."""
        ...

    async def drop_strangers(self, partition: int) -> list[str]:
        """Drop entries that nobody committed: no events, or without a position. Gives their ids. Others may write."""
        ...

    async def drop_ghosts(self, partition: int) -> None:
        """Drop what was written at a position that was given again later: it was never committed."""
        ...

    async def append(self, partition: int, entries: Sequence[Entry]) -> None:
        """Add entries as they were, ids and all, after the log's last."""
        ...

    async def forget_readers(self, partition: int) -> None:
        """Positions that lie beyond the log's end mean nothing any more."""
        ...

    async def forget_orders(self, partition: int) -> None:
        """Drop every order's hash, key and list: some are of events that are nowhere any more."""
        ...

    async def drop_work(self, partition: int) -> None:
        """No timers, no items; the groups are there at every moment, so that no reader takes fright."""
        ...

    async def parked_versions(self, partition: int) -> dict[str, int]:
        """Orders set aside, by the version at which they were."""
        ...

    async def remake_orders(self, partition: int, orders: Sequence[Restored], now: datetime) -> None:
        """The orders as after the commit of their last events; those that have ended as after they were let go."""
        ...

    async def remake_work(self, partition: int, orders: Sequence[Restored], parked: Mapping[str, int]) -> None:
        """One item or timer for each order that waits for somebody; one that was set aside stays so."""
        ...

    async def remake_keys(self, partition: int, entries: Sequence[Entry], now: datetime) -> None:
        """What a request leaves behind for a day: its idempotency key, and its place in the user's list."""
        ...


class RepairableLog(Reads, Protocol):
    """A log that can be made whole."""

    @property
    def repair(self) -> LogRepair: ...

    async def read_unchecked(self, after: Mapping[int, Position], count: int, block_ms: int) -> list[Entry]:
        """`read`, also while the log is being checked."""
        ...
