"""Keeping the log in memory small."""

from collections.abc import Sequence

from libs.events.ids import Position, partition_of
from libs.events.memory_parts import MemoryParts
from libs.events.upkeep import READER_EXPIRES_S, Pressure, Reader


class MemoryUpkeep(MemoryParts):
    """The `Upkeep` role of `MemoryLog`."""

    async def readers(self) -> list[Reader]:
        now = self._clock_ms()
        return [
            Reader(name, number, at, (now - seen) / 1_000)
            for number, part in enumerate(self._parts)
            for name, (at, seen) in part.readers.items()
        ]

    async def forget_reader(self, reader: Reader) -> None:
        readers, now = self._parts[reader.partition].readers, self._clock_ms()
        if reader.name in readers and (now - readers[reader.name][1]) / 1_000 >= reader.silent_s:
            del readers[reader.name]

    async def trim(self, partition: int, before: Position) -> int:
        part, now = self._parts[partition], self._clock_ms()
        before = min([before, *(at for at, seen in part.readers.values() if now - seen <= READER_EXPIRES_S * 1_000)])
        kept = next((entry.at.position for entry in part.entries if entry.at >= before), len(part.entries) + 1)
        gone, part.first = max(0, kept - part.first), max(kept, part.first)
        return gone

    async def retire(self, order_ids: Sequence[str]) -> None:
        for order_id in order_ids:
            part = self._parts[partition_of(order_id)]
            if held := part.orders.pop(order_id, None):
                part.retired[order_id] = held.order.version

    async def pressure(self) -> Pressure:
        now = self._clock_ms()
        ages = [
            now - part.work_ms[item_id]
            for part in self._parts
            for service, items in part.work.items()
            for item_id in items
            if item_id not in part.pending[service]
        ]
        return Pressure(max(ages, default=0) / 1_000, 0, 0, now)
