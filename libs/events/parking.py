"""Giving a parked item up. Its order would wait for ever, so the order ends with it, and its owner hears of it."""

from datetime import datetime
from typing import Protocol

from libs.events.commands import follow
from libs.events.ids import partition_of
from libs.events.log import Commits, Committed, Snapshot
from libs.events.model import OrderFailed, Reason, Stage, Status, UnknownEvent
from libs.events.order import Order
from libs.events.parked import Parked, ParkedItems
from libs.events.reactions import EXECUTOR, TERMINAL
from libs.events.retry import DETAIL_CHARS_MAX

SOURCE = "ops"


class ParkingLog(Commits, ParkedItems, Protocol):
    """The part of the log that discarding needs."""


class NotDiscardable(Exception):
    """Ending the order now could be wrong; the text is a sentence for the operator. Nothing was written."""


async def discard(
    log: ParkingLog, parked: Parked, *, by: str, reason: str, now: datetime, not_settled: bool = False
) -> Order | None:
    """End the order as FAILED, unless it has ended, then move the item to the audit.

    Gives the order as it is then, or None when the log holds none. After an error, or a crash between the two, do it
    again: whatever was done already is left as it is. `not_settled`: the operator has proof that the transaction of a
    submitted order is not on the chain and never will be.

    Raises:
        NotDiscardable, LogUnavailable
    """
    held = await discardable(log, parked, not_settled=not_settled)
    order = held.order if held else None
    if held and held.order.status not in TERMINAL:
        order = await _fail(log, held, parked, reason, now)
    await log.discard(parked, by, reason)
    return order


async def discardable(log: ParkingLog, parked: Parked, *, not_settled: bool = False) -> Snapshot | None:
    """The order that would end, or has ended, as the log holds it now; None: it holds none.

    Raises:
        NotDiscardable, LogUnavailable
    """
    held = await _held(log, parked)
    if held and held.order.status not in TERMINAL and not not_settled and (doubt := _doubt(held)):
        raise NotDiscardable(doubt)
    return held


async def redrivable(log: ParkingLog, parked: Parked) -> bool:
    """Whether a redrive would find its order. Another release may read what this one cannot."""
    try:
        return await _held(log, parked) is not None
    except NotDiscardable:
        return True


async def _held(log: ParkingLog, parked: Parked) -> Snapshot | None:
    try:
        if partition_of(parked.order_id) != parked.partition:
            return None
    except ValueError:
        return None  # it may have been parked for its id
    try:
        return await log.find(parked.order_id)
    except ValueError as error:
        raise NotDiscardable(f"this release cannot read the order's state, use one that can: {error}") from error


def _doubt(held: Snapshot) -> str:
    if held.order.status is Status.SUBMITTED:
        return f"its transaction {held.order.signature} may still settle: look it up on the chain first"
    if isinstance(held.event.data, UnknownEvent):
        return (
            f"its last event is {held.event.type} v{held.event.v}, which this release does not know: use one that does"
        )
    return ""


async def _fail(log: ParkingLog, held: Snapshot, parked: Parked, reason: str, now: datetime) -> Order:
    stage: Stage = "execution" if parked.service == EXECUTOR else "routing"
    detail = reason[:DETAIL_CHARS_MAX]
    failed = OrderFailed(stage=stage, attempt=held.order.attempt, reason=Reason.DISCARDED_BY_OPERATOR, detail=detail)
    step, then = follow(held, [failed], source=SOURCE, now=now)
    match await log.commit(step):
        case Committed():
            return then.order
        case _:
            raise NotDiscardable("the order went on at this moment: look at it again")
