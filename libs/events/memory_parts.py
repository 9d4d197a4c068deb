"""What the log in memory holds, and what more than one of its roles does with it."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from libs.events.ids import Position
from libs.events.log import Entry, Snapshot
from libs.events.parked import Discarded, Parked
from libs.events.reactions import WORKERS
from libs.events.record import item_fields
from libs.events.work import Item


@dataclass
class Pending:
    """An item in somebody's hands."""

    consumer: str
    since_ms: int
    deliveries: int


@dataclass
class Partition:
    """One partition, as Redis would hold it."""

    entries: list[Entry] = field(default_factory=list)
    ms: int = 0
    orders: dict[str, Snapshot] = field(default_factory=dict)
    trails: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    keys: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    recent: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    open: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    timers: dict[str, int] = field(default_factory=dict)
    work: dict[str, dict[str, dict[str, str]]] = field(default_factory=lambda: {name: {} for name in WORKERS})
    pending: dict[str, dict[str, Pending]] = field(default_factory=lambda: {name: {} for name in WORKERS})
    parked: dict[str, Parked] = field(default_factory=dict)
    discarded: list[Discarded] = field(default_factory=list)
    readers: dict[str, tuple[Position, int]] = field(default_factory=dict)
    retired: dict[str, int] = field(default_factory=dict)
    first: int = 1  # what is older was trimmed
    work_ms: dict[str, int] = field(default_factory=dict)

    def version_of(self, order_id: str) -> int:
        held = self.orders.get(order_id)
        return held.order.version if held else self.retired.get(order_id, 0)


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryParts:
    """The partitions, on one clock."""

    def __init__(self, partitions: int, clock_ms: Callable[[], int] = _wall_clock_ms) -> None:
        self._parts = [Partition() for _ in range(partitions)]
        self._clock_ms = clock_ms
        self._made = 0
        self._changed = asyncio.Event()

    @property
    def partitions(self) -> int:
        return len(self._parts)

    @property
    def epoch(self) -> str:
        return "memory"

    def _mine(self, item: Item) -> bool:
        held = self._parts[item.partition].pending[item.service].get(item.id)
        return held is not None and held.consumer == item.consumer

    def _add_item(self, part: Partition, service: str, order_id: str) -> None:
        self._made += 1
        part.work_ms[f"{self._made}-0"] = self._clock_ms()
        part.work[service][f"{self._made}-0"] = item_fields(part.trails[order_id][-1].fields)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait(self, block_ms: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(block_ms / 1_000):
                await self._changed.wait()
