"""The worker runtime: takes an item, lets a handler say what happened next, commits it, and goes on while it may.

A handler returns events; only this module commits them. No events means "nothing yet, ask me again". A handler may be
called twice for the same event (a crash, a claim), and whatever it does outside must bear that; the log keeps one
result.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from libs.events.commands import follow
from libs.events.crash import crossing
from libs.events.envelope import Envelope
from libs.events.errors import EventLogError, LogMismatch
from libs.events.ids import partition_of
from libs.events.in_hand import InHand
from libs.events.keeper import Keeper
from libs.events.log import Committed, Conflict, Duplicate, Item, NotYours, Snapshot, Step
from libs.events.model import Event, UnknownEvent
from libs.events.order import Order
from libs.events.pace import Pace
from libs.events.patient_log import PatientLog
from libs.events.poison import Poison
from libs.events.reactions import delay_ms, next_actor
from libs.events.record import snapshot
from libs.events.suspects import Suspects
from libs.events.together import HandleMany, Left, work_together
from libs.events.worker_limits import WorkerLimits, jittered
from libs.events.worker_ports import Needs, WorkerLog

GATHERED_WHEN_ROOM_FOR = 8  # times what came

Handle = Callable[[Order, Envelope], Awaitable[Sequence[Event]]]


class Worker:
    """One process' share of a service's work."""

    def __init__(
        self,
        log: WorkerLog,
        service: str,
        handle: Handle,
        *,
        consumer: str,
        health: Needs,
        limits: WorkerLimits | None = None,
        drain_s: float = 10,
        handle_many: HandleMany | None = None,
    ) -> None:
        """`handle_many`: the handler for many at once, where it can do that cheaper than one by one."""
        limits = limits or WorkerLimits()
        self._log, self._service, self._consumer = log, service, consumer
        self._handle, self._handle_many = handle, handle_many
        self._health, self._limits, self._drain_s = health, limits, drain_s
        self._patient_log = PatientLog(log, health, limits)
        self._in_hand = InHand(limits.in_flight_max)
        self._keeper = Keeper(log, service, consumer, limits, in_hand=self._in_hand, begin=self._begin)
        self._suspects = Suspects(limits)
        self._pace = Pace(limits.gather_ms_max, limits.gather_ms_at_1_000_per_s)
        self._mismatch: LogMismatch | None = None
        self._say = structlog.get_logger().bind(consumer=consumer)

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
        """Counts are for workers that die of an item: it must not be set aside for those that were told to stop."""
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
                    # As long as a read waits: what is in hand may not end for long, and a stop must be noticed.
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
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), jittered(failures, self._limits))
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
        # Where there was hardly room for what came, more is waiting already.
        if len(items) * GATHERED_WHEN_ROOM_FOR <= room:
            await asyncio.sleep(pause_s)

    def _begin(self, item: Item) -> None:
        if item not in self._in_hand:
            self._in_hand.start([item], self._work(item))

    def _begin_fresh(self, items: Sequence[Item]) -> None:
        items = [item for item in items if item not in self._in_hand]
        # Where a part of Redis was away, some may have been handed out before.
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
            # Whatever it was: each by itself will meet it again, and say so.
            self._say.debug("one_by_one", reason=repr(error))
        for item, now in left:
            self._in_hand.start([item], self._work(item, now))

    async def _work(self, item: Item, now: Snapshot | None = None) -> None:
        # For every line said in this task, which is this item's alone.
        structlog.contextvars.bind_contextvars(order_id=item.order_id)
        try:
            if item.deliveries < self._limits.suspect_from_delivery:
                await self._handle_item(item, now)
            else:
                async with self._suspects.room(item.deliveries):
                    await self._handle_item(item, now)
        except Poison as poison:
            await self._park(item, poison)
        except LogMismatch as error:
            # Not this item's trouble but everybody's: the reader ends the run.
            self._mismatch = self._mismatch or error
        except asyncio.CancelledError:
            raise
        except Exception:
            # Nothing is lost: the item stays pending and comes again.
            self._say.exception("item_left_pending", item=item.id)

    async def _handle_item(self, item: Item, now: Snapshot | None) -> None:
        if item.deliveries > self._limits.deliveries_max:
            times = item.deliveries - 1
            raise Poison(f"handed out {times} times and never finished", times)
        if item.deliveries > 1:
            # Before it is handled: whoever comes after a process that died of it must find this time counted.
            await self._patient_log.count_delivery(item)
        now = now or await self._present(item)
        while now and next_actor(now.event.data) == self._service:
            step, then = follow(
                now, await self._decide(item, now), source=self._service, now=datetime.now(UTC), item=item
            )
            if not step.events:
                # Nothing to tell yet: the handler is asked again.
                await asyncio.sleep(self._limits.ask_again_s)
                continue
            outcome = await self._patient_log.commit(step)
            match outcome:
                case Committed():
                    if delay_ms(then.event.data) is not None or next_actor(then.event.data) != self._service:
                        return
                    now = then
                case Conflict(now=held):
                    now = held
                case NotYours() | Duplicate():
                    return
        await self._release(item, now)

    async def _present(self, item: Item) -> Snapshot | None:
        """What to act on: a fresh item brought it along, after a redelivery the log is asked."""
        try:
            if partition_of(item.order_id) != item.partition:
                raise ValueError(f"{item.order_id!r} is no order of partition {item.partition}")
            if item.deliveries == 1:
                held = snapshot(item.order_id, item.fields)
            else:
                held = await self._patient_log.find(item.order_id)
            if held is None:
                # Ended, archived and let go; or there is none, and that is told.
                await self._version(item)
                return None
        except ValueError as error:
            raise Poison(f"cannot be decoded: {error}") from error
        if isinstance(held.event.data, UnknownEvent):
            raise Poison(f"this release does not know {held.event.type} v{held.event.v}")
        return held

    async def _decide(self, item: Item, now: Snapshot) -> Sequence[Event]:
        """Ask the handler; an exception is tried again, each try counted before it is made."""
        structlog.contextvars.bind_contextvars(event_id=now.event.id, trace=now.event.traceparent)
        while True:
            try:
                async with asyncio.timeout(self._limits.handle_seconds_max):
                    return await self._handle(now.order, now.event)
            except EventLogError:
                raise
            except Exception as error:
                deliveries = await self._patient_log.count_delivery(item)
                if deliveries > self._limits.deliveries_max:
                    raise Poison(f"{type(error).__name__}: {error}", deliveries - 1) from error
                self._say.warning("handler_failed", event_id=now.event.id, deliveries=deliveries, exc_info=True)
                await asyncio.sleep(jittered(deliveries, self._limits))

    async def _release(self, item: Item, now: Snapshot | None) -> None:
        """The order needs nothing of this service any more: the item goes, the log stays as it is."""
        version = now.order.version if now else await self._version(item)
        outcome = await self._patient_log.commit(Step(item.order_id, now.order.user if now else "", version, item=item))
        if isinstance(outcome, Conflict):
            # It moved on between; whoever moved it answered for the item or will meet it again.
            self._say.info("item_left_pending", item=item.id)

    async def _version(self, item: Item) -> int:
        version = await self._patient_log.version(item.order_id)
        if not version:
            raise Poison(f"the log holds no order {item.order_id or '(none named)'}")
        return version

    async def _park(self, item: Item, poison: Poison) -> None:
        item = replace(item, deliveries=poison.deliveries or item.deliveries)
        reason, fingerprint = str(poison), poison.fingerprint
        if await self._patient_log.park(item, reason, fingerprint):
            self._say.error("item_parked", item=item.id, reason=reason, fingerprint=fingerprint)
