"""Whole orders in logs whose beginning may be gone, and an archive beside them."""

from collections.abc import Sequence
from typing import Any, cast

from libs.events.errors import Trimmed
from libs.events.log import Entry
from libs.events.memory_log import MemoryLog
from libs.events.order import Order
from libs.orders.store import OrderStore


class Clock:
    """Goes on by ten milliseconds with every look."""

    def __init__(self) -> None:
        self.ms = 1_000

    def __call__(self) -> int:
        self.ms += 10
        return self.ms


class TrimmedLog(MemoryLog):
    """A log whose beginning is gone."""

    def __init__(self, partitions: int, clock: Clock) -> None:
        super().__init__(partitions, clock)
        self.first = 1

    def _entries(self, after: Any, count: int) -> list[Entry]:
        found: list[Entry] = []
        for partition, at in after.items():
            kept = [e for e in self._parts[partition].entries if e.at.position >= self.first and e.at > at][:count]
            if kept and kept[0].at.position != at.position + 1:
                raise Trimmed(partition, at.position + 1, kept[0].at.position)
            found += kept
        return found

    async def history(self, order_id: str) -> list[Entry]:
        return [entry for entry in await super().history(order_id) if entry.at.position >= self.first]


class Archive:
    """What a store knows, from entries alone."""

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self.kept = list(entries)
        self.order: Order | None = None
        self.asked = 0

    async def archived(self, partition: int, after: int, count: int) -> list[Entry]:
        self.asked += 1
        return [e for e in self.kept if e.partition == partition and e.at.position > after][:count]

    async def entries(self, order_id: str) -> list[Entry]:
        return [entry for entry in self.kept if entry.fields["subject"] == order_id]

    async def get(self, order_id: str) -> Order | None:
        return self.order


def as_store(archive: Archive) -> OrderStore:
    return cast("OrderStore", archive)


async def everything(log: MemoryLog) -> list[Entry]:
    return [entry for part in log._parts for entry in part.entries]
