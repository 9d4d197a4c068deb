"""Fresh items handled together: one call of the handler and one write for many, where each by itself would cost a task,
a timer and a wake-up. An item with any trouble is left to the worker, which handles it by itself (`libs.events.alone`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from libs.events.commands import follow
from libs.events.envelope import Envelope
from libs.events.log import Commits, Committed, Conflict, Duplicate, NotYours, Snapshot, Step, TooManyOpen
from libs.events.model import Event, UnknownEvent
from libs.events.order import Order
from libs.events.reactions import delay_ms, next_actor
from libs.events.record import snapshot
from libs.events.work import Item

Pair = tuple[Order, Envelope]
HandleMany = Callable[[Sequence[Pair]], Awaitable[Sequence[Sequence[Event] | Exception]]]
Held = tuple[Item, Snapshot]
Left = tuple[Item, Snapshot | None]
"""An item that is not finished, with what it is to be acted on: None, look again."""


async def work_together(
    log: Commits, service: str, handle_many: HandleMany, items: Sequence[Item], seconds_max: float
) -> list[Left]:
    """Handle fresh items step by step, as long as all goes well; gives those that are not finished."""
    left: list[Left] = []
    held: list[Held] = []
    for item in items:
        try:
            now = snapshot(item.order_id, item.fields)
        except ValueError:
            now = None
        if now is None or isinstance(now.event.data, UnknownEvent) or next_actor(now.event.data) != service:
            left.append((item, None))
        else:
            held.append((item, now))
    while held:
        try:
            async with asyncio.timeout(seconds_max):
                decided = await handle_many([(now.order, now.event) for _, now in held])
        except Exception:
            # One of them raised; which one shows when each is handled by itself.
            return left + held
        steps: list[Step] = []
        moves: list[tuple[Item, Snapshot, Snapshot]] = []
        for (item, before), bodies in zip(held, decided, strict=True):
            if isinstance(bodies, Exception) or not bodies:
                left.append((item, before))
                continue
            step, then = follow(before, bodies, source=service, now=datetime.now(UTC), item=item)
            steps.append(step)
            moves.append((item, before, then))
        held, unwritten = await _write(log, service, steps, moves)
        left += unwritten
    return left


async def _write(
    log: Commits, service: str, steps: Sequence[Step], moves: Sequence[tuple[Item, Snapshot, Snapshot]]
) -> tuple[list[Held], list[Left]]:
    """Those that go on here, and those that were not written as meant."""
    goes_on: list[Held] = []
    unwritten: list[Left] = []
    for (item, before, then), outcome in zip(moves, await log.commit_many(steps), strict=True):
        match outcome:
            case Committed():
                if delay_ms(then.event.data) is None and next_actor(then.event.data) == service:
                    goes_on.append((item, then))
            case Conflict(now=held):
                unwritten.append((item, held))
            case NotYours() | Duplicate() | TooManyOpen():
                pass
            case _:
                unwritten.append((item, before))
    return goes_on, unwritten
