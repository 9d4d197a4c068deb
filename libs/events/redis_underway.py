"""Reads that wait, one for each part of a cluster, seen as one.

No read is ever cancelled: Redis would hand its entry to nobody. What a read brings after another has answered is kept
for the next call that asks for the same.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from libs.events.errors import LogUnavailable

Place = Any  # hashable: in a Mapping a type of its own would fit nobody's keys
Read = Callable[[], Awaitable[list[Any]]]

# Before a part that is away is asked again; meanwhile the others are read.
PAUSE_S = 0.3


class Underway:
    """At most one read of each place at a time."""

    def __init__(self, forget_after_s: float | None = None) -> None:
        """`forget_after_s`: what nobody has asked for by then goes; only of reads that may be repeated."""
        self._forget_after_s, self._forgot_at = forget_after_s, 0.0
        self._tasks: dict[Place, asyncio.Task[list[Any] | LogUnavailable]] = {}
        self._away: dict[Place, LogUnavailable] = {}

    async def some(self, reads: Mapping[Place, Read], *, every: bool) -> tuple[list[Any], list[LogUnavailable]]:
        """What came first, or with `every` what came of all, and the errors of those that are away.

        Raises:
            LogUnavailable: all are.
        """
        if self._forget_after_s is not None and time.monotonic() - self._forgot_at > self._forget_after_s:
            self._forget(reads)
        tasks = {place: self._tasks.get(place) or self._begin(place, read) for place, read in reads.items()}
        await asyncio.wait(tasks.values(), return_when=asyncio.ALL_COMPLETED if every else asyncio.FIRST_COMPLETED)
        found: list[Any] = []
        for place, task in tasks.items():
            if task.done():
                found += self._end(place, task)
        away = [self._away[place] for place in reads if place in self._away]
        if not found and len(away) == len(reads):
            raise away[0]
        return found, away

    async def rest(self, wanted: Callable[[Any], bool]) -> list[Any]:
        """What the reads still under way at these places bring."""
        tasks = {place: task for place, task in self._tasks.items() if wanted(place)}
        if tasks:
            await asyncio.wait(tasks.values())
        return [one for place, task in tasks.items() for one in self._end(place, task)]

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, place: Place, read: Read) -> "asyncio.Task[list[Any] | LogUnavailable]":
        task = self._tasks[place] = asyncio.create_task(_tried(read))
        return task

    def _end(self, place: Place, task: "asyncio.Task[list[Any] | LogUnavailable]") -> list[Any]:
        # Another one may have waited for the same, and been here before.
        if self._tasks.get(place) is task:
            del self._tasks[place]
        self._away.pop(place, None)
        came = task.result()
        if isinstance(came, LogUnavailable):
            self._away[place] = came
            return []
        return came

    def _forget(self, reads: Mapping[Place, Read]) -> None:
        self._forgot_at = time.monotonic()
        self._tasks = {place: task for place, task in self._tasks.items() if place in reads or not task.done()}
        self._away = {place: error for place, error in self._away.items() if place in reads}


async def _tried(read: Read) -> list[Any] | LogUnavailable:
    try:
        return await read()
    except LogUnavailable as error:
        await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1))  # noqa: S311 - jitter
        return error
