"""Reading the log in memory by position, and orders as it holds them."""

from collections.abc import Iterable, Mapping, Sequence

from libs.events.errors import Trimmed
from libs.events.ids import Position, partition_of, partition_of_user
from libs.events.log import RECENT_MAX, Entry, Only, Snapshot
from libs.events.memory_parts import MemoryParts


class MemoryReads(MemoryParts):
    """The `Reads` role of `MemoryLog`."""

    async def tip(self, partition: int) -> Position:
        part = self._parts[partition]
        return Position(part.ms, len(part.entries))

    async def read(
        self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
    ) -> list[Entry]:
        entries = self._entries(after, count)
        if not entries and block_ms:
            await self._wait(block_ms)
            entries = self._entries(after, count)
        return entries if only is None else _wanted(entries, only)

    def _entries(self, after: Mapping[int, Position], count: int) -> list[Entry]:
        for partition, at in after.items():
            if at.position + 1 < (first := self._parts[partition].first):
                raise Trimmed(partition, at.position + 1, first)
        return [
            entry
            for partition, at in after.items()
            for entry in self._parts[partition].entries[at.position : at.position + count]
        ]

    async def history(self, order_id: str) -> list[Entry]:
        part = self._parts[partition_of(order_id)]
        trail = part.trails.get(order_id, ()) if order_id in part.orders else ()
        return [entry for entry in trail if entry.at.position >= part.first]

    async def entries_at(self, partition: int, positions: Sequence[Position]) -> list[Entry]:
        part = self._parts[partition]
        return [entry for at in positions for entry in part.entries[at.position - 1 :][:1] if at.position >= part.first]

    async def recent(self, user: str, before: str | None, limit: int) -> list[str]:
        ids: Iterable[str] = self._parts[partition_of_user(user, self.partitions)].recent.get(user, ())
        return [order_id for order_id in sorted(ids, reverse=True) if not before or order_id < before][:limit]

    async def recent_since(self, user: str) -> str | None:
        ids = self._parts[partition_of_user(user, self.partitions)].recent.get(user, ())
        return min(ids) if len(ids) >= RECENT_MAX else None

    async def find(self, order_id: str) -> Snapshot | None:
        return self._parts[partition_of(order_id)].orders.get(order_id)

    async def version(self, order_id: str) -> int:
        return self._parts[partition_of(order_id)].version_of(order_id)

    async def find_many(self, order_ids: Sequence[str]) -> dict[str, Snapshot]:
        found = {order_id: await self.find(order_id) for order_id in order_ids}
        return {order_id: held for order_id, held in found.items() if held}

    async def order_of_key(self, user: str, key: str) -> str | None:
        held = self._parts[partition_of_user(user, self.partitions)].keys.get((user, key))
        return held[0] if held else None

    async def register_reader(self, name: str, at: Mapping[int, Position]) -> None:
        for partition, position in at.items():
            self._parts[partition].readers[name] = (position, self._clock_ms())


def _wanted(entries: list[Entry], only: Only) -> list[Entry]:
    lasts = {entry.partition: entry for entry in entries}
    return [
        entry
        for entry in entries
        if entry is lasts[entry.partition] or only(entry.fields["user"], entry.fields["subject"])
    ]
