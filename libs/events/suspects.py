"""Items that may have killed a process: the more often they were there when one died, the fewer are handled at once."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libs.events.worker_limits import WorkerLimits


class Suspects:
    """Room for suspected items, first come, first served.

    When the process dies of one of them, only those being handled were counted one delivery further. With 64, then 8,
    then 1 at once, one killer among thousands is alone after as many deaths as one alone from the start would take, and
    the innocent do not wait for each other: most processes die of something else.
    """

    def __init__(self, limits: WorkerLimits) -> None:
        self._limits = limits
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._taken = 0

    def at_once(self, deliveries: int) -> int:
        """How many with so many deliveries may be handled together; 0: not suspected."""
        limits = self._limits
        if deliveries < limits.suspect_from_delivery:
            return 0
        levels = max(1, limits.deliveries_max - limits.suspect_from_delivery)
        left = max(0, limits.deliveries_max - deliveries)
        return max(1, round(math.pow(limits.suspects_at_once, left / levels)))

    @asynccontextmanager
    async def room(self, deliveries: int) -> AsyncIterator[None]:
        """Wait until an item with so many deliveries may be handled."""
        at_once = self.at_once(deliveries)
        weight = self._limits.suspects_at_once // at_once if at_once else 0
        if weight:
            async with self._turn:
                while self._taken + weight > self._limits.suspects_at_once:
                    self._freed.clear()
                    await self._freed.wait()
                self._taken += weight
        try:
            yield
        finally:
            self._taken -= weight
            self._freed.set()
