"""The worker runtime: takes an item, lets a handler say what happened next, commits it, and goes on while it may.

A handler returns events; only the runtime commits them. No events means "nothing yet, ask me again". A handler may be
called twice for the same event (a crash, a claim), and whatever it does outside must bear that; the log keeps one
result.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from libs.events.alone import Alone, Handle
from libs.events.crash import crossing
from libs.events.errors import EventLogError, LogMismatch
from libs.events.in_hand import InHand
from libs.events.keeper import Keeper
from libs.events.log import Snapshot
from libs.events.pace import Pace
from libs.events.patient_log import PatientLog
from libs.events.pausing import pause
from libs.events.poison import Poison
from libs.events.suspects import Suspects
from libs.events.together import HandleMany, Left, work_together
from libs.events.work import Item
from libs.events.worker_limits import WorkerLimits, jittered
from libs.events.worker_ports import HealthReporter, WorkerLog

GATHERED_WHEN_ROOM_FOR = 8  # times what came


class Worker:
    """One process' share of a service's work."""

    def __init__(
        self,
        log: WorkerLog,
        service: str,
        handle: Handle,
        *,
        consumer: str,
        health: HealthReporter,
        limits: WorkerLimits | None = None,
        drain_s: float = 10,
        handle_many: HandleMany | None = None,
    ) -> None:
        """`handle_many`: the same handler for many items at once, if that is cheaper."""
        limits = limits or WorkerLimits()
        self._log, self._service, self._consumer = log, service, consumer
        self._handle_many = handle_many
        self._health, self._limits, self._drain_s = health, limits, drain_s
        self._in_hand = InHand(limits.in_flight_max)
        self._keeper = Keeper(log, service, consumer, limits, in_hand=self._in_hand, begin=self._begin)
        self._suspects = Suspects(limits)
        self._pace = Pace(limits.gather_ms_max, limits.gather_ms_at_1_000_per_s)
        self._mismatch: LogMismatch | None = None
        self._say = structlog.get_logger().bind(consumer=consumer)
        self._alone = Alone(PatientLog(log, health, limits), service, handle, limits, self._say)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then finish what is in hand within the drain window.

        Raises:
            LogMismatch: the log is not the one this process opened; start it again, then run again.
        """
        self._mismatch = None
        keeping = asyncio.create_task(self._keeper.run())
        try:
            await self._read(stop)
            self._begin_fresh(await self._log.take_rest(self._service, self._consumer))
            late = await self._in_hand.drain(self._drain_s)
            await self._uncount([item for item in late if item.deliveries > 1])
        finally:
            keeping.cancel()
            # After a mismatch there is still work in hand, and none of it can be committed.
            await self._in_hand.drop()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _uncount(self, broken_off: Sequence[Item]) -> None:
        """Deliveries count towards parking, for items that kill workers: a stop must not count."""
        with suppress(EventLogError, TimeoutError):
            async with asyncio.timeout(self._limits.block_ms / 1000):
                await self._log.uncount_delivery(broken_off)

    async def _read(self, stop: asyncio.Event) -> None:
        """Own pending items first, after a start as after every trouble; then new ones."""
        failures, seen_pending = 0, False
        while not stop.is_set():
            try:
                if self._mismatch:
                    raise self._mismatch
                if not seen_pending:
                    await self._take_pending()
                    seen_pending = True
                room = self._in_hand.room()
                if room <= 0:
                    # Not longer than a read would wait, so that a stop is noticed.
                    await self._in_hand.until_an_end(self._limits.block_ms / 1000)
                    continue
                await self._take(room)
            except LogMismatch as error:
                self._health.trouble("log", str(error))
                raise
            except EventLogError as error:
                failures, seen_pending = failures + 1, False
                self._health.trouble("log", str(error))
                self._say.warning("log_unavailable", reason=str(error), failures=failures)
                await pause(jittered(failures, self._limits), stop)
            else:
                failures = 0
                self._health.ok("log")

    async def _take_pending(self) -> None:
        with crossing("work.take_pending"):
            pending = await self._log.take_pending(self._service, self._consumer)
        # The least suspicious first.
        for item in sorted(pending, key=lambda item: item.deliveries):
            self._begin(item)

    async def _take(self, room: int) -> None:
        with crossing("work.take"):
            items = await self._log.take(self._service, self._consumer, room, self._limits.block_ms)
        self._begin_fresh(items)
        pause_s = self._pace.pause_s(asyncio.get_running_loop().time(), len(items))
        # With hardly any room left, more is waiting already: no pause.
        if len(items) * GATHERED_WHEN_ROOM_FOR <= room:
            await asyncio.sleep(pause_s)

    def _begin(self, item: Item) -> None:
        if item not in self._in_hand:
            self._in_hand.start([item], self._work(item))

    def _begin_fresh(self, items: Sequence[Item]) -> None:
        items = [item for item in items if item not in self._in_hand]
        # After a part of Redis was away, some may be redeliveries.
        alone = items if self._handle_many is None else [item for item in items if item.deliveries > 1]
        for item in alone:
            self._begin(item)
        if self._handle_many is None:
            return
        fresh = [item for item in items if item.deliveries == 1]
        size = self._limits.together_max
        for group in (fresh[begin : begin + size] for begin in range(0, len(fresh), size)):
            self._in_hand.start(group, self._work_together(group, self._handle_many))

    async def _work_together(self, items: Sequence[Item], handle_many: HandleMany) -> None:
        left: list[Left] = [(item, None) for item in items]
        try:
            left = await work_together(self._log, self._service, handle_many, items, self._limits.handle_seconds_max)
        except Exception as error:
            # Whatever it was, each item will meet it again by itself, and say so.
            self._say.debug("one_by_one", reason=repr(error))
        for item, now in left:
            self._in_hand.start([item], self._work(item, now))

    async def _work(self, item: Item, now: Snapshot | None = None) -> None:
        # This task is this item's alone, so all its log lines carry the order.
        structlog.contextvars.bind_contextvars(order_id=item.order_id)
        try:
            if item.deliveries < self._limits.suspect_from_delivery:
                await self._alone.handle(item, now)
            else:
                async with self._suspects.room(item.deliveries):
                    await self._alone.handle(item, now)
        except Poison as poison:
            await self._alone.park(item, poison)
        except LogMismatch as error:
            # Every item would meet this: the reader ends the run.
            self._mismatch = self._mismatch or error
        except Exception:
            # Nothing is lost: the item stays pending and comes again.
            self._say.exception("item_left_pending", item=item.id)
