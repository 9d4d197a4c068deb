"""The worker runtime: takes an item, lets a handler say what happened next, commits it, and goes on while it may.

A handler returns events; only this module commits them. No events means "nothing yet, ask me again". A handler may be
called twice for the same event (a crash, a claim), and whatever it does outside must bear that; the log keeps one
result.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2s
from typing import Protocol, TypeVar

import structlog

from libs.events.commands import follow
from libs.events.crash import crossing
from libs.events.envelope import Envelope
from libs.events.errors import EventLogError, LogMismatch
from libs.events.ids import partition_of
from libs.events.log import Commits, Committed, Conflict, Duplicate, Item, NotYours, Snapshot, Step, Work
from libs.events.model import AttemptFailed, Event, UnknownEvent
from libs.events.order import Order
from libs.events.pace import Pace
from libs.events.reactions import NEXT_ACTOR, delay_ms, next_actor
from libs.events.record import snapshot
from libs.events.suspects import Suspects
from libs.events.together import HandleMany, Left, work_together
from libs.events.worker_limits import WorkerLimits, jittered

GATHERED_WHEN_ROOM_FOR = 8  # times what came

T = TypeVar("T")
Handle = Callable[[Order, Envelope], Awaitable[Sequence[Event]]]


class WorkerLog(Commits, Work, Protocol):
    """The part of the log a worker uses."""


class Needs(Protocol):
    """Where a worker says whether it can work; `libs.service.health.Health` is one."""

    def ok(self, need: str) -> None: ...

    def trouble(self, need: str, reason: str) -> None: ...


class Poison(Exception):
    """The item cannot be handled by this release, however often it is tried (`deliveries`, if more than it says)."""

    def __init__(self, reason: str, deliveries: int | None = None) -> None:
        super().__init__(reason)
        self.deliveries = deliveries


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
        self._log, self._service, self._handle, self._handle_many = log, service, handle, handle_many
        self._consumer, self._health, self._drain_s = consumer, health, drain_s
        self._limits = limits or WorkerLimits()
        self._in_hand: dict[tuple[int, str], tuple[Item, asyncio.Task[None]]] = {}
        self._room = asyncio.Event()
        self._suspects = Suspects(self._limits)
        self._pace = Pace(self._limits.gather_ms_max, self._limits.gather_ms_at_1_000_per_s)
        self._mismatch: LogMismatch | None = None
        self._say = structlog.get_logger().bind(consumer=consumer)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then finish what is in hand within the drain window.

        Raises:
            LogMismatch: the log is not the one this process opened; start it again, then run again.
        """
        self._mismatch = None
        limits = self._limits
        keepers = [self._every(limits.renew_every_s, self._renew), self._every(limits.claim_every_s, self._claim)]
        if NEXT_ACTOR[AttemptFailed] == self._service:
            keepers.append(self._every(limits.timers_every_s, self._move_due))
        tasks = [asyncio.create_task(keeper) for keeper in keepers]
        try:
            await self._read(stop)
            self._begin_fresh(await self._log.take_rest(self._service, self._consumer))
            await self._drain()
        finally:
            # After a mismatch there is still work in hand, and none of it can be committed.
            tasks += [task for _, task in self._in_hand.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, stop: asyncio.Event) -> None:
        """Own pending items first, after a start as after every trouble; then new ones."""
        failures, seen_pending = 0, False
        while not stop.is_set():
            try:
                if self._mismatch:
                    raise self._mismatch
                if not seen_pending:
                    with crossing("work.take_pending"):
                        pending = await self._log.take_pending(self._service, self._consumer)
                    # The least suspicious first.
                    for item in sorted(pending, key=lambda item: item.deliveries):
                        self._begin(item)
                    seen_pending = True
                free = self._limits.in_flight_max - len(self._in_hand)
                if free <= 0:
                    await self._until_room()
                    continue
                with crossing("work.take"):
                    items = await self._log.take(self._service, self._consumer, free, self._limits.block_ms)
                self._begin_fresh(items)
                pause_s = self._pace.pause_s(asyncio.get_running_loop().time(), len(items))
                # Where there was hardly room for what came, more is waiting already.
                if len(items) * GATHERED_WHEN_ROOM_FOR <= free:
                    await asyncio.sleep(pause_s)
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

    async def _until_room(self) -> None:
        self._room.clear()
        await self._room.wait()

    def _begin(self, item: Item, now: Snapshot | None = None) -> None:
        if (item.partition, item.id) not in self._in_hand:
            self._keep([item], asyncio.create_task(self._work(item, now)))

    def _begin_fresh(self, items: Sequence[Item]) -> None:
        items = [item for item in items if (item.partition, item.id) not in self._in_hand]
        # Where a part of Redis was away, some may have been handed out before.
        alone = items if self._handle_many is None else [item for item in items if item.deliveries > 1]
        for item in alone:
            self._begin(item)
        if self._handle_many is None:
            return
        fresh = [item for item in items if item.deliveries == 1]
        size = self._limits.together_max
        for group in (fresh[begin : begin + size] for begin in range(0, len(fresh), size)):
            self._keep(group, asyncio.create_task(self._work_together(group, self._handle_many)))

    def _keep(self, items: Sequence[Item], task: asyncio.Task[None]) -> None:
        for item in items:
            self._in_hand[item.partition, item.id] = (item, task)
        task.add_done_callback(lambda _: self._end(items, task))

    def _end(self, items: Sequence[Item], task: asyncio.Task[None]) -> None:
        for item in items:
            place = (item.partition, item.id)
            # What was left of a group has a task of its own by now.
            if self._in_hand.get(place, (None, None))[1] is task:
                del self._in_hand[place]
        self._room.set()

    async def _work_together(self, items: Sequence[Item], handle_many: HandleMany) -> None:
        left: list[Left] = [(item, None) for item in items]
        try:
            left = await work_together(self._log, self._service, handle_many, items, self._limits.handle_seconds_max)
        except Exception as error:
            # Whatever it was: each by itself will meet it again, and say so.
            self._say.debug("one_by_one", reason=repr(error))
        for item, now in left:
            self._keep([item], asyncio.create_task(self._work(item, now)))

    async def _work(self, item: Item, now: Snapshot | None = None) -> None:
        # For every line said in this task, which is this item's alone.
        structlog.contextvars.bind_contextvars(order_id=item.order_id)
        try:
            if item.deliveries < self._limits.suspect_from_delivery:
                await self._handle_item(item, now)
            else:
                async with self._suspects.room(item.deliveries):
                    await self._handle_item(item, now)
        except Poison as error:
            await self._park(item, error)
        except LogMismatch as error:
            # Not this item's trouble but everybody's: the reader ends the run.
            self._mismatch = self._mismatch or error
            self._room.set()
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
            with crossing("work.count"):
                await self._retrying(lambda: self._log.count_delivery(item))
        now = now or await self._present(item)
        while now and next_actor(now.event.data) == self._service:
            step, then = follow(
                now, await self._decide(item, now), source=self._service, now=datetime.now(UTC), item=item
            )
            if not step.events:
                # Nothing to tell yet: the handler is asked again.
                await asyncio.sleep(self._limits.ask_again_s)
                continue
            outcome = await self._commit(step)
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
                with crossing("work.find"):
                    held = await self._retrying(lambda: self._log.find(item.order_id))
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
                with crossing("work.count"):
                    deliveries = await self._retrying(lambda: self._log.count_delivery(item))
                if deliveries > self._limits.deliveries_max:
                    raise Poison(f"{type(error).__name__}: {error}", deliveries - 1) from error
                self._say.warning("handler_failed", event_id=now.event.id, deliveries=deliveries, exc_info=True)
                await asyncio.sleep(jittered(deliveries, self._limits))

    async def _commit(self, step: Step) -> Committed | Conflict | NotYours | Duplicate:
        # After a lost reply the same step again answers "conflict" with what the log holds: nothing is assumed.
        return await self._retrying(lambda: self._log.commit(step))

    async def _retrying(self, call: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                return await call()
            except LogMismatch:
                raise
            except EventLogError as error:
                failures += 1
                self._health.trouble("log", str(error))
                await asyncio.sleep(jittered(failures, self._limits))

    async def _release(self, item: Item, now: Snapshot | None) -> None:
        """The order needs nothing of this service any more: the item goes, the log stays as it is."""
        version = now.order.version if now else await self._version(item)
        outcome = await self._commit(Step(item.order_id, now.order.user if now else "", version, item=item))
        if isinstance(outcome, Conflict):
            # It moved on between; whoever moved it answered for the item or will meet it again.
            self._say.info("item_left_pending", item=item.id)

    async def _version(self, item: Item) -> int:
        version = await self._retrying(lambda: self._log.version(item.order_id))
        if not version:
            raise Poison(f"the log holds no order {item.order_id or '(none named)'}")
        return version

    async def _park(self, item: Item, error: Poison) -> None:
        item = replace(item, deliveries=error.deliveries or item.deliveries)
        cause = error.__cause__ or error
        trace = cause.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else ""
        fingerprint = blake2s(f"{type(cause).__name__} {place}".encode(), digest_size=8).hexdigest()
        with crossing("work.park"):
            parked = await self._retrying(lambda: self._log.park(item, str(error), fingerprint))
        if parked:
            self._say.error("item_parked", item=item.id, reason=str(error), fingerprint=fingerprint)

    async def _renew(self) -> None:
        with crossing("work.renew"):
            await self._log.renew([item for item, _ in self._in_hand.values()])

    async def _move_due(self) -> None:
        with crossing("work.timers"):
            await self._log.move_due()

    async def _claim(self) -> None:
        with crossing("work.claim"):
            claimed = await self._log.claim(self._service, self._consumer, self._limits.claim_idle_ms)
        for item in claimed:
            self._say.info("item_claimed", item=item.id, claimed_order=item.order_id, deliveries=item.deliveries)
            self._begin(item)

    async def _every(self, seconds: float, act: Callable[[], Awaitable[object]]) -> None:
        while True:
            await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - replicas must not march in step
            try:
                await act()
            except EventLogError as error:
                self._say.debug("upkeep_failed", reason=str(error))

    async def _drain(self) -> None:
        """Finish what is in hand; what is not done in time stays pending and is taken up at the next start."""
        tasks = [task for _, task in self._in_hand.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
