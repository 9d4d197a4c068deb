"""Fresh items handled together: one call of the handler and one write for many, where each alone would cost a task, a
timer and a wake-up. Whatever is not plain sailing gets a look of its own, by the worker, as if it had come alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from libs.events.commands import follow
from libs.events.log import Commits, Committed, Item, Snapshot, Step
from libs.events.model import Envelope, Event, UnknownEvent
from libs.events.order import Order
from libs.events.reactions import delay_ms, next_actor

Pair = tuple[Order, Envelope]
HandleMany = Callable[[Sequence[Pair]], Awaitable[Sequence[Sequence[Event] | Exception]]]
Left = tuple[Item, Snapshot | None]
"""An item that is not finished, with what it is to be acted on: None, look again."""


def fresh_snapshot(item: Item) -> Snapshot:
    """What a fresh item says itself.

    Raises:
        ValueError, KeyError: it cannot be read.
    """
    return Snapshot(Order.model_validate_json(item.fields["state"]), Envelope.from_fields(dict(item.fields)))


async def work_together(
    log: Commits, service: str, handle_many: HandleMany, items: Sequence[Item], seconds_max: float
) -> list[Left]:
    """Handle fresh items and write what happened; gives those that are not finished by that."""
    left: list[Left] = []
    held: list[tuple[Item, Snapshot]] = []
    for item in items:
        try:
            now = fresh_snapshot(item)
        except (ValueError, KeyError):
            left.append((item, None))
            continue
        known = not isinstance(now.event.data, UnknownEvent) and next_actor(now.event.data) == service
        (held if known else left).append((item, now))
    try:
        async with asyncio.timeout(seconds_max):
            decided = await handle_many([(now.order, now.event) for _, now in held])
    except Exception:
        # One of them is the trouble: which, shows when each is handled by itself.
        return [*left, *((item, None) for item, _ in held)]
    steps: list[Step] = []
    after: list[tuple[Item, Snapshot]] = []
    for (item, before), bodies in zip(held, decided, strict=True):
        if isinstance(bodies, Exception) or not bodies:
            left.append((item, None))
            continue
        step, then = follow(before, bodies, source=service, now=datetime.now(UTC), item=item)
        steps.append(step)
        after.append((item, then))
    return left + await _write(log, service, steps, after)


async def _write(
    log: Commits, service: str, steps: Sequence[Step], after: Sequence[tuple[Item, Snapshot]]
) -> list[Left]:
    left: list[Left] = []
    for (item, then), outcome in zip(after, await log.commit_many(steps), strict=True):
        if not isinstance(outcome, Committed):
            left.append((item, None))
        elif delay_ms(then.event.data) is None and next_actor(then.event.data) == service:
            left.append((item, then))
    return left
