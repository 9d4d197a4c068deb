"""What clients make happen: an order is placed, an order is cancelled. The only writes of the gateway."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from libs.events.commands import follow
from libs.events.errors import LogReplaced, LogUnavailable, OutcomeUnknown
from libs.events.log import Commits, Committed, Conflict, Duplicate, Outcome, Snapshot, Step, TooManyOpen
from libs.events.model import OrderCancelled
from libs.events.order import Order
from libs.events.reactions import CANCELLABLE
from libs.service.coalesce import each
from services.gateway import limits

SOURCE = "gateway"


class OutcomeUndecided(Exception):
    """It is not known whether the step is in the log, and there is no more time to find out."""

    def __init__(self, reason: str, step: Step) -> None:
        super().__init__(reason)
        self.order_id = step.order_id
        self.key = step.idempotency.key if step.idempotency else None
        self.places = step.expected_version == 0


class KeyReused(Exception):
    """The idempotency key belongs to an order that asked for something else."""

    def __init__(self, order_id: str) -> None:
        super().__init__(order_id)
        self.order_id = order_id


class OpenOrdersFull(Exception):
    """As many of the user's orders as may have not ended yet."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} of your orders have not ended, as many as may")
        self.count = count


@dataclass(frozen=True, slots=True)
class Replayed:
    """The same was asked before under the same key: this order came of it."""

    order_id: str


async def place(log: Commits, step: Step) -> Replayed | None:
    """Write a new order; None: it is in the log.

    Raises:
        KeyReused, OpenOrdersFull, LogUnavailable, OutcomeUndecided
    """
    return _placed(step, await commit(log, step))


async def place_many(log: Commits, steps: Sequence[Step]) -> list[Replayed | Exception | None]:
    """`place` for each, written together; what it would raise is its own result."""
    outcomes = await log.commit_many(steps)
    lost = {
        step.order_id: _ask_again(log, step, str(outcome))
        for step, outcome in zip(steps, outcomes, strict=True)
        if isinstance(outcome, OutcomeUnknown)
    }
    found = dict(zip(lost, await each(lost.values()), strict=True))
    return [_result(step, found.get(step.order_id, outcome)) for step, outcome in zip(steps, outcomes, strict=True)]


def _result(step: Step, outcome: Outcome | Exception) -> Replayed | Exception | None:
    try:
        return outcome if isinstance(outcome, Exception) else _placed(step, outcome)
    except (KeyReused, OpenOrdersFull) as refusal:
        return refusal


def _placed(step: Step, outcome: Outcome) -> Replayed | None:
    match outcome:
        case Committed():
            return None
        # Nobody else makes this id, so an order already there is our own step whose reply was lost.
        case Conflict() | Duplicate(order_id=step.order_id):
            return None
        case Duplicate(order_id=order_id, fingerprint=fingerprint):
            if step.idempotency is None or step.idempotency.fingerprint != fingerprint:
                raise KeyReused(order_id)
            return Replayed(order_id)
        case TooManyOpen(open=count):
            raise OpenOrdersFull(count)
        case outcome:
            raise AssertionError(f"a new order cannot meet {outcome}")


async def cancel(log: Commits, held: Snapshot, clock: Callable[[], datetime], *, only_once: bool = False) -> Order:
    """Cancel the order if that is still possible; gives the order as it is then, whatever its status.

    `only_once`: not when it has changed since it was `held`.

    Raises:
        LogUnavailable, OutcomeUndecided
    """
    for _ in range(limits.CANCEL_TRIES_MAX):
        if held.order.status not in CANCELLABLE:
            return held.order
        step, after = follow(held, [OrderCancelled()], source=SOURCE, now=clock())
        match await commit(log, step):
            case Committed():
                return after.order
            case Conflict(now=Snapshot() as now):
                if only_once:
                    return now.order
                held = now
            case outcome:
                raise LogUnavailable(f"the log answered a cancel with {outcome}")
    raise LogUnavailable("the order changed faster than it could be cancelled")


async def commit(log: Commits, step: Step) -> Outcome:
    """Commit; after a lost reply the same step again, because the log tells a repetition from a first time.

    Raises:
        LogUnavailable: nothing was written.
        OutcomeUndecided: no answer within the deadline.
    """
    try:
        return await log.commit(step)
    except OutcomeUnknown as lost:
        reason = str(lost)
    return await _ask_again(log, step, reason)


async def _ask_again(log: Commits, step: Step, reason: str) -> Outcome:
    pause_s = limits.OUTCOME_PAUSE_S
    try:
        async with asyncio.timeout(limits.OUTCOME_DEADLINE_S):
            while True:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, limits.OUTCOME_PAUSE_MAX_S)
                try:
                    return await log.commit(step)
                except (LogUnavailable, LogReplaced) as away:
                    # Also when this time nothing was written: the first time still may have been.
                    reason = str(away)
    except TimeoutError:
        raise OutcomeUndecided(reason, step) from None
