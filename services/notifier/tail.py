"""Reading the log from its tips, through outages and holes, on behalf of the hub."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from libs.events.crash import crossing
from libs.events.errors import LogMismatch, LogNotOpen, LogReplaced, LogUnavailable
from libs.events.ids import Position
from libs.events.log import Entry, Reads
from libs.events.opening import pause_s
from libs.events.pace import Pace
from libs.events.pausing import pause
from libs.orders.store import StoreUnavailable
from services.notifier import observe
from services.notifier.hub import Hub
from services.notifier.limits import Limits

BACKOFF_BASE_S, BACKOFF_CAP_S = 0.1, 5.0
REGISTER_EVERY_S = 5.0
SHORTEST_BLOCK_MS = 1


class Tail:
    """One reader for the whole process, without a group: nothing is acknowledged, and what is older is in snapshots."""

    def __init__(
        self, log: Reads, hub: Hub, limits: Limits, *, name: str, reopen: Callable[[], Awaitable[None]]
    ) -> None:
        """`reopen` makes the log usable: at the start, and after it turned out not to be the one read before."""
        self._log, self._hub, self._limits, self._name, self._reopen = log, hub, limits, name, reopen
        self._registered_at = 0.0
        self._pace = Pace(limits.gather_ms_max, limits.gather_ms_at_1_000_per_s)
        self._at: dict[int, Position] = {}

    async def follow(self, stop: asyncio.Event, health: Callable[[str], None] = lambda _trouble: None) -> None:
        """Feed the hub until `stop`. `health` hears why the log cannot be read, or "" when it can.

        Raises:
            LogMismatch: this log is of another layout; only an operator can help.
        """
        failures = 0
        while not stop.is_set():
            try:
                if not self._at:
                    await self._start()
                await self._step()
                failures = 0
                health("")
            except (LogUnavailable, LogReplaced, StoreUnavailable) as away:
                failures += 1
                health(str(away))
                await _pause(stop, failures, away)

    async def _start(self) -> None:
        await self._reopen()
        self._at = {partition: await self._log.tip(partition) for partition in range(self._log.partitions)}
        self._hub.start_over()
        self._hub.settle(self._at)

    async def _step(self) -> None:
        try:
            await (self._read() if self._hub.listeners else self._skip())
        except LogMismatch as hole:
            # What is missing cannot be sent any more; the snapshots everybody gets now are the truth.
            observe.hole_found(str(hole))
            self._hub.pause()
            self._at = {}
            raise LogUnavailable(str(hole)) from hole

    async def _read(self) -> None:
        limits, want = self._limits, self._hub.listeners.want
        with crossing("log.read"):
            # Entries without a listener are not unpacked. A listener that comes later reads its snapshot later, too.
            entries = await self._log.read(self._at, limits.read_count, limits.read_block_ms, want)
        lasts = {entry.partition: entry.at for entry in entries}
        read = sum(at.position - self._at[partition].position for partition, at in lasts.items())
        await self._deliver(entries)
        await self._register()
        await asyncio.sleep(self._pace.pause_s(_now(), read))

    async def _skip(self) -> None:
        """Nobody listens: it is enough to know where the log ends, and that it is still the same log."""
        self._hub.listeners.came.clear()
        with crossing("log.read"):
            tips = dict(self._at)
            for partition in tips:
                with suppress(LogUnavailable):  # a part of a cluster may be away: the others go on
                    tips[partition] = await self._log.tip(partition)
            # Only a blocking read shows whether Redis is being checked, or away as a whole.
            await self._log.read(tips, 1, SHORTEST_BLOCK_MS, self._hub.listeners.want)
        if self._hub.listeners:
            return  # what is before these tips may be missing in the snapshot of a listener that came meanwhile
        self._at = tips
        self._hub.settle(tips)
        await self._register()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.read_block_ms / 1_000):
                await self._hub.listeners.came.wait()

    async def _register(self) -> None:
        """Nothing this reader still needs is trimmed while it keeps saying where it is."""
        if _now() - self._registered_at >= REGISTER_EVERY_S:
            self._registered_at = _now()
            await self._log.register_reader(self._name, self._at)

    async def _deliver(self, entries: list[Entry]) -> None:
        await self._hub.prepare(entries)
        frames = 0
        for entry in entries:
            frames += self._hub.deliver(entry)
            self._at[entry.partition] = entry.at
            if frames >= self._limits.frames_at_once:
                frames = 0
                await self._hub.flush()
        await self._hub.flush()
        self._hub.settle(self._at)


async def _pause(stop: asyncio.Event, failures: int, away: Exception) -> None:
    jitter_s = random.uniform(0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(failures, 10)))  # noqa: S311 - jitter
    wait_s = pause_s(away, jitter_s)
    if not isinstance(away, LogNotOpen):  # every start begins with that one
        observe.log_away(str(away), wait_s)
    await pause(wait_s, stop)


def _now() -> float:
    return asyncio.get_running_loop().time()
