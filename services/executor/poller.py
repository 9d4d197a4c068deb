"""The one poller that watches every sent transaction of this process."""

import asyncio
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from services.executor.chain import STATUSES_PER_CALL_MAX, Chain
from services.executor.domain import Look
from services.executor.rpc import RPC_DEADLINE_MS, ChainUnavailable

FIRST_PAUSE_MS = 2
TROUBLE_PAUSE_MS = 100  # after a look that failed
FIRST_ANSWER_SECONDS_MAX = 2 * RPC_DEADLINE_MS / 1000  # a look may have to wait for the one before


@dataclass(slots=True, eq=False)
class _Watch:
    signature: str
    due: float
    found: asyncio.Future[Look]
    answered: asyncio.Future[None]  # once, whatever the answer was
    pause_ms: float = FIRST_PAUSE_MS
    looked: float = field(default=-math.inf)
    slot: int = -1


class Poller:
    """Looks at many signatures with one call. Each is looked at at once, then after 2, 4, 8 … `pause_max_ms`.

    So a chain that answers in a millisecond is seen within milliseconds, and one with long slots is not flooded. A new
    slot seen by anybody's look brings the others' looks forward.
    """

    def __init__(self, chain: Chain, pause_max_ms: int) -> None:
        self._chain, self._pause_max_ms = chain, pause_max_ms
        self._watches: set[_Watch] = set()
        self._changed = asyncio.Event()
        self._slot = -1
        self._task: asyncio.Task[None] | None = None

    async def watch(self, signature: str, for_ms: int) -> Look | None:
        """The first look that shows `signature` settled, or None when none did within `for_ms`: that proves nothing.

        One answer is waited for: where a node takes longer than that for each, none would ever be seen.
        """
        loop = asyncio.get_running_loop()
        watch = _Watch(signature, loop.time(), loop.create_future(), loop.create_future())
        self._watches.add(watch)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._poll())
        try:
            await asyncio.wait([watch.found], timeout=for_ms / 1000)
            if not watch.found.done():
                await asyncio.wait([watch.answered], timeout=max(0, FIRST_ANSWER_SECONDS_MAX - for_ms / 1000))
            return watch.found.result() if watch.found.done() else None
        finally:
            self._watches.discard(watch)

    async def aclose(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _poll(self) -> None:
        """Runs while anybody watches."""
        loop = asyncio.get_running_loop()
        while self._watches:
            now = loop.time()
            due = [watch for watch in self._watches if self._due(watch) <= now][:STATUSES_PER_CALL_MAX]
            if not due:
                await self._until(min(map(self._due, self._watches)) - now)
                continue
            try:
                looks = await self._chain.look([watch.signature for watch in due])
            except ChainUnavailable:
                _answer(due)
                await asyncio.sleep(TROUBLE_PAUSE_MS / 1000)
                continue
            except Exception as error:
                self._fail(error)
                raise
            _answer(due)
            self._told(due, looks, loop.time())

    def _told(self, watches: list[_Watch], looks: list[Look], now: float) -> None:
        self._slot = max(self._slot, *(look.slot for look in looks))
        for watch, look in zip(watches, looks, strict=True):
            if look.status and look.status.settled:
                if not watch.found.done():
                    watch.found.set_result(look)
                self._watches.discard(watch)
                continue
            watch.looked, watch.slot = now, self._slot
            pause_s = watch.pause_ms / 1000
            # On a common grid, so that many orders share a call.
            watch.due = math.ceil((now + pause_s / 2) / pause_s) * pause_s
            watch.pause_ms = min(watch.pause_ms * 2, self._pause_max_ms)

    def _due(self, watch: _Watch) -> float:
        if watch.slot < self._slot:
            return min(watch.due, watch.looked + watch.pause_ms / 4000)
        return watch.due

    async def _until(self, seconds: float) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _fail(self, error: Exception) -> None:
        for watch in self._watches:
            if not watch.found.done():
                watch.found.set_exception(error)
        _answer(self._watches)
        self._watches.clear()


def _answer(watches: Iterable[_Watch]) -> None:
    for watch in watches:
        if not watch.answered.done():
            watch.answered.set_result(None)
