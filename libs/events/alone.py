"""One item by itself: its order goes on as far as this service can take it, each step committed before the next."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from libs.events.commands import follow
from libs.events.envelope import Envelope
from libs.events.errors import EventLogError
from libs.events.ids import partition_of
from libs.events.log import Committed, Conflict, Duplicate, NotYours, Snapshot, Step, TooManyOpen
from libs.events.model import Event, UnknownEvent
from libs.events.order import Order
from libs.events.patient_log import PatientLog
from libs.events.poison import Poison
from libs.events.reactions import delay_ms, next_actor
from libs.events.record import snapshot
from libs.events.work import Item
from libs.events.worker_limits import WorkerLimits, jittered

Handle = Callable[[Order, Envelope], Awaitable[Sequence[Event]]]


class Alone:
    """See `libs.events.together` for many at once."""

    def __init__(self, log: PatientLog, service: str, handle: Handle, limits: WorkerLimits, say: Any) -> None:
        """`say`: the worker's own logger."""
        self._log, self._service, self._handle = log, service, handle
        self._limits, self._say = limits, say

    async def handle(self, item: Item, now: Snapshot | None) -> None:
        """Go on until the order needs nothing more of this service. `now`: its present state, if it is known.

        Raises:
            Poison: it cannot be handled, see `park`.
            LogMismatch: the log is not the one this process opened.
        """
        if item.deliveries > self._limits.deliveries_max:
            times = item.deliveries - 1
            raise Poison(f"handed out {times} times and never finished", times)
        if item.deliveries > 1:
            # Counted before it is handled: should the process die of it, the next one must know of this try.
            await self._log.count_delivery(item)
        now = now or await self._present(item)
        while now and next_actor(now.event.data) == self._service:
            step, then = follow(
                now, await self._decide(item, now), source=self._service, now=datetime.now(UTC), item=item
            )
            if not step.events:
                await asyncio.sleep(self._limits.ask_again_s)  # nothing has happened yet: ask the handler again
                continue
            outcome = await self._log.commit(step)
            match outcome:
                case Committed():
                    if delay_ms(then.event.data) is not None or next_actor(then.event.data) != self._service:
                        return
                    now = then
                case Conflict(now=held):
                    now = held
                case NotYours() | Duplicate() | TooManyOpen():
                    return
        await self._release(item, now)

    async def _present(self, item: Item) -> Snapshot | None:
        """What to act on. A fresh item carries it; after a redelivery the log is asked.

        None: its order ended, was archived and let go; or there is none, and that is told when the item is given back.
        """
        try:
            if partition_of(item.order_id) != item.partition:
                raise ValueError(f"{item.order_id!r} is no order of partition {item.partition}")
            if item.deliveries == 1:
                held = snapshot(item.order_id, item.fields)
            else:
                held = await self._log.find(item.order_id)
        except ValueError as error:
            raise Poison(f"cannot be decoded: {error}") from error
        if held and isinstance(held.event.data, UnknownEvent):
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
                deliveries = await self._log.count_delivery(item)
                if deliveries > self._limits.deliveries_max:
                    raise Poison(f"{type(error).__name__}: {error}", deliveries - 1) from error
                self._say.warning("handler_failed", event_id=now.event.id, deliveries=deliveries, exc_info=True)
                await asyncio.sleep(jittered(deliveries, self._limits))  # other items go on meanwhile

    async def _release(self, item: Item, now: Snapshot | None) -> None:
        """The order needs nothing of this service any more: the item goes, the log stays as it is."""
        version = now.order.version if now else await self._version(item)
        outcome = await self._log.commit(Step(item.order_id, now.order.user if now else "", version, item=item))
        if isinstance(outcome, Conflict):
            # The order went on meanwhile: whatever moved it has answered the item, or will meet it again.
            self._say.info("item_left_pending", item=item.id)

    async def _version(self, item: Item) -> int:
        version = await self._log.version(item.order_id)
        if not version:
            raise Poison(f"the log holds no order {item.order_id or '(none named)'}")
        return version

    async def park(self, item: Item, poison: Poison) -> None:
        """Set it aside, with the reason."""
        item = replace(item, deliveries=poison.deliveries or item.deliveries)
        reason, fingerprint = str(poison), poison.fingerprint
        if await self._log.park(item, reason, fingerprint):
            self._say.error("item_parked", item=item.id, reason=reason, fingerprint=fingerprint)
