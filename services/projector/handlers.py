"""Follows the log and projects it: read from the checkpoint, write a batch, publish how far it is.

Whatever cannot be projected (a hole, another epoch, an entry that is no event, a second writer) ends the process with
an error, before anything is written. Nothing is skipped: an archive with a hole could not give the log back.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Protocol

from libs.events.crash import crossing
from libs.events.errors import LogMismatch, LogReplaced, LogUnavailable
from libs.events.ids import Position
from libs.events.log import Entry, Reads
from libs.events.pausing import pause
from libs.orders.batch import Batch
from libs.orders.store import Projection, StoreUnavailable
from libs.service.health import Health
from services.projector import observe

READER = "projector"
ENTRIES_PER_PARTITION_MAX = 500
BLOCK_MS = 500  # how long a stop may go unnoticed
# The first entry after a silence is projected at once; then a batch collects, because each costs an fsync, some round
# trips and a write per order in it. Nobody waits for it, since readers ask the log first. It is not longer, because
# what is not projected yet is gone if Redis loses its files.
BATCH_EVERY_S = 0.1
REPORT_EVERY_S = 1.0
STAND_BY_S = 1.0
BACKOFF_BASE_S, BACKOFF_CAP_S = 0.2, 2.0


class Log(Reads, Protocol):
    """A log that must be started, and started again after it was away."""

    async def start(self) -> None: ...


class Repairs(Protocol):
    """Makes the log and keeps it whole; `Repair` is one."""

    async def mend(self) -> None: ...

    async def glance(self, at: Mapping[int, Position]) -> set[int]: ...


class HoldsSeat(Protocol):
    """What only one process holds at a time; `Seat` is one."""

    async def take(self) -> bool: ...


class Trims(Protocol):
    """Trims the log; `Janitor` is one."""

    def archived(self, entries: Iterable[Entry]) -> None: ...

    async def sweep(self, archived: Mapping[int, Position]) -> None: ...

    async def leave(self) -> None: ...


class Projector:
    """One process follows all partitions; a second one stands by, or stops at the checkpoint."""

    def __init__(
        self,
        log: Log,
        projection: Projection,
        health: Health,
        repair: Repairs | None = None,
        janitor: Trims | None = None,
        seat: HoldsSeat | None = None,
    ) -> None:
        self._log, self._seat = log, seat
        self._stands_by = False
        self._repair, self._janitor = repair, janitor
        self._projection = projection
        self._health = health
        self._reported_at = 0.0
        self._trouble = ""
        self._failures = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Project until `stop` is set; then finish the batch in hand.

        Raises:
            EventLogError, StoreError: what an operator must look at. A store that is away is waited for.
        """
        while not stop.is_set():
            try:
                if await self._is_its_turn():
                    await self._follow(stop)
                else:
                    await pause(STAND_BY_S, stop)
            except LogReplaced as error:
                if not self._repair:
                    raise
                observe.replaced(error)
            except LogUnavailable as error:
                await self._wait_for("redis", error, stop)
            except StoreUnavailable as error:
                await self._wait_for("postgres", error, stop)

    async def _is_its_turn(self) -> bool:
        stood_by, self._stands_by = self._stands_by, self._seat is not None and not await self._seat.take()
        if self._stands_by:
            self._trouble = ""  # that is the other projector's concern now
            self._healthy()
            if not stood_by:
                observe.standing_by()
        return not self._stands_by

    async def _follow(self, stop: asyncio.Event) -> None:
        if self._repair:
            self._health.trouble("redis", "the log is being checked, or restored from the archive")
            await self._repair.mend()
        await self._log.start()
        epoch = self._log.epoch
        with crossing("projection.resume"):
            at = await self._projection.resume(epoch, self._log.partitions)
        observe.resumed(epoch, at)
        if trouble := await self._projection.trouble_ahead():
            observe.trouble_ahead(trouble)
        await self._report(at)
        while not stop.is_set():
            with crossing("log.read"):
                entries = await self._log.read(at, ENTRIES_PER_PARTITION_MAX, BLOCK_MS)
            began = _now()
            if entries:
                observe.batch_read(min(entry.at.ms for entry in entries))
                with crossing("projection.apply"):
                    at = await self._projection.apply(epoch, Batch(at, entries))
                if self._janitor:
                    self._janitor.archived(entries)
                observe.batch_projected(len(entries), _now() - began)
            self._healthy()
            if _now() - self._reported_at >= REPORT_EVERY_S:
                await self._report(at)
            if entries and not _is_behind(entries):
                await pause(BATCH_EVERY_S - (_now() - began), stop)
        await self._report(at)
        if self._janitor:
            with suppress(LogUnavailable):
                await self._janitor.leave()

    async def _report(self, at: Mapping[int, Position]) -> None:
        """Publish how far the archive is, and see that the log did not fall behind it."""
        self._reported_at = _now()
        there = dict(at)
        if self._repair:
            there = {partition: at[partition] for partition in await self._repair.glance(at)}
        away = sorted(at.keys() - there)
        self._trouble = f"partitions {', '.join(map(str, away))} are away" if away else ""
        for partition, position in there.items():
            with suppress(LogUnavailable):  # of a cluster one node may have gone just now: no reason to stop for all
                await self._compare(partition, position)
        try:
            with crossing("reader.report"):
                await self._log.register_reader(READER, at)
        except LogUnavailable as error:
            # A Redis that is full refuses it, and must be archived and trimmed; if one is away the next read says so.
            self._trouble = str(error)
        if self._janitor:
            try:
                await self._janitor.sweep(there)
            except LogUnavailable as error:
                # If Redis is away the next read says so; but it may refuse this alone, until it is full.
                observe.not_swept(str(error))

    async def _compare(self, partition: int, position: Position) -> None:
        tip = await self._log.tip(partition)
        if tip.position < position.position:
            raise LogMismatch(
                f"partition {partition}: the log ends at {tip}, but Postgres has it up to {position}: "
                "Redis lost its tail or came back from an older copy"
            )
        observe.lag(partition, tip.position - position.position)

    def _healthy(self) -> None:
        self._failures = 0
        if self._trouble:
            self._health.trouble("redis", self._trouble)
        else:
            self._health.ok("redis")
        self._health.ok("postgres")

    async def _wait_for(self, need: str, error: Exception, stop: asyncio.Event) -> None:
        self._failures += 1
        self._health.trouble(need, str(error))
        ceiling = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(self._failures, 16))
        delay_s = random.uniform(BACKOFF_BASE_S, ceiling)  # noqa: S311 - jitter
        observe.waiting(need, str(error), self._failures, delay_s)
        await pause(delay_s, stop)


def _is_behind(entries: Iterable[Entry]) -> bool:
    """Whether some partition has more than was read of it."""
    return max(Counter(entry.partition for entry in entries).values()) >= ENTRIES_PER_PARTITION_MAX


def _now() -> float:
    return asyncio.get_running_loop().time()
