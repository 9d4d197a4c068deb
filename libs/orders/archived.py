"""The log and the archive as one: a reader whose place was trimmed from the log goes on in the archive."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from libs.events.errors import PositionGap, Trimmed
from libs.events.ids import Position
from libs.events.log import Entry, Only, Reads, Snapshot


class Archive(Protocol):
    """What holds every event; `OrderStore` is one."""

    async def archived(self, partition: int, after: int, limit: int) -> list[Entry]: ...


class ArchivedReads:
    """The `Reads` port over both."""

    def __init__(self, log: Reads, archive: Archive) -> None:
        self._log, self._archive = log, archive

    async def read(
        self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
    ) -> list[Entry]:
        """See `Reads.read`. A partition whose next entry was trimmed is read from the archive, and alone.

        Raises:
            PositionGap: neither has the entry.
            StoreUnavailable: it is in the archive, and that is away.
        """
        try:
            return await self._log.read(after, count, block_ms, only)
        except Trimmed as trimmed:
            partition, at = trimmed.partition, after[trimmed.partition]
            entries = await self._archive.archived(partition, at.position, count)
            if not entries or entries[0].at.position != at.position + 1:
                raise PositionGap(partition, at.position + 1, trimmed.found) from trimmed
            return entries

    @property
    def partitions(self) -> int:
        return self._log.partitions

    @property
    def epoch(self) -> str:
        return self._log.epoch

    async def tip(self, partition: int) -> Position:
        """See `Reads.tip`."""
        return await self._log.tip(partition)

    async def history(self, order_id: str) -> list[Entry]:
        """See `Reads.history`."""
        return await self._log.history(order_id)

    async def entries_at(self, partition: int, positions: Sequence[Position]) -> list[Entry]:
        """See `Reads.entries_at`."""
        return await self._log.entries_at(partition, positions)

    async def recent(self, user: str, before: str | None, limit: int) -> list[str]:
        """See `Reads.recent`."""
        return await self._log.recent(user, before, limit)

    async def recent_since(self, user: str) -> str | None:
        """See `Reads.recent_since`."""
        return await self._log.recent_since(user)

    async def find_many(self, order_ids: Sequence[str]) -> dict[str, Snapshot]:
        """See `Reads.find_many`."""
        return await self._log.find_many(order_ids)

    async def order_of_key(self, user: str, key: str) -> str | None:
        """See `Reads.order_of_key`."""
        return await self._log.order_of_key(user, key)

    async def register_reader(self, name: str, at: Mapping[int, Position]) -> None:
        """See `Reads.register_reader`."""
        await self._log.register_reader(name, at)


async def position_before(archive: Archive, partition: int, since_ms: int, until: int) -> int:
    """The last archived position older than `since_ms`, at most `until`; 0: none is.

    By halving: positions are contiguous, and times never go back.

    Raises:
        StoreUnavailable
    """
    low, high = 0, until
    while low < high:
        middle = (low + high + 1) // 2
        found = await archive.archived(partition, middle - 1, 1)
        if found and found[0].at.ms < since_ms:
            low = middle
        else:
            high = middle - 1
    return low
