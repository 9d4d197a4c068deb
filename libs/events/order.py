"""What an order is, and the one fold that makes it from its events."""

from collections.abc import Sequence
from typing import Any

from pydantic import AwareDatetime

from libs.events.envelope import Envelope
from libs.events.errors import VersionGap
from libs.events.model import (
    AttemptFailed,
    Event,
    Frozen,
    OrderCancelled,
    OrderExpired,
    OrderFailed,
    OrderOpened,
    OrderRequested,
    ReasonCode,
    Route,
    RouteSelected,
    RoutingStarted,
    Stage,
    Status,
    Terms,
    TxConfirmed,
    TxSubmitted,
    Units,
)
from libs.events.reactions import STATUS_AFTER
from libs.events.trusted import changed, trusted


class Failure(Frozen):
    """Why the last attempt, or the order, failed."""

    stage: Stage
    reason: ReasonCode
    detail: str


class Order(Frozen):
    """The folded state of one order after its event number `version`."""

    id: str
    user: str
    version: int
    status: Status
    token_in: str
    token_out: str
    mint_in: str
    mint_out: str
    amount_in: Units
    slippage_bps: int
    expires_at: AwareDatetime
    created_at: AwareDatetime
    updated_at: AwareDatetime
    attempt: int = 0
    attempts_before: int = 0  # it last waited for its price
    route: Route | None = None
    signature: str | None = None
    transaction: str | None = None
    last_valid_block_height: int | None = None
    retry_at: AwareDatetime | None = None
    amount_out: Units | None = None
    slot: int | None = None
    failure: Failure | None = None
    terms: Terms | None = None


def evolve(order: Order | None, event: Envelope) -> Order:
    """The order after `event`. An event already folded changes nothing; an unknown one only counts.

    Raises:
        VersionGap: an event before this one is missing.
    """
    version = order.version if order else 0
    if order and event.version <= version:
        return order
    if event.version != version + 1:
        raise VersionGap(event.subject, expected=version + 1, found=event.version)
    if order is None:
        return trusted(Order, _requested(event))
    return changed(order, _after(event, order.status))


def fold_latest(events: Sequence[Envelope]) -> Order:
    """The order of which these, by version, are the last event of each type.

    What an event changes depends on nothing but the event, so those it was repeated by have left nothing of it.

    Raises:
        VersionGap: the first is not the order's request.
    """
    first, *later = events
    values = _requested(first)
    for event in later:
        values |= _after(event, values["status"])
    return trusted(Order, values)


def _after(event: Envelope, status: Status) -> dict[str, Any]:
    status = STATUS_AFTER.get(type(event.data), status)
    return {"version": event.version, "updated_at": event.time, "status": status, **_changes(event.data)}


def _requested(event: Envelope) -> dict[str, Any]:
    request = event.data
    if not isinstance(request, OrderRequested):
        raise VersionGap(event.subject, expected=1, found=event.version, detail=f"starts with {event.type}")
    return {
        "id": event.subject,
        "user": event.user,
        "version": 1,
        "status": STATUS_AFTER[OrderRequested],
        "token_in": request.token_in,
        "token_out": request.token_out,
        "mint_in": request.mint_in,
        "mint_out": request.mint_out,
        "amount_in": request.amount_in,
        "slippage_bps": request.slippage_bps,
        "expires_at": request.expires_at,
        "created_at": event.time,
        "updated_at": event.time,
        "terms": request.terms,
    }


def _changes(data: Event) -> dict[str, object]:
    match data:
        case RoutingStarted(attempt=attempt):
            return {"attempt": attempt, "retry_at": None}
        case RouteSelected(route=route):
            return {"route": route, "failure": None}
        case OrderOpened(attempt=attempt):
            # It met no price, so it goes on counting from this one.
            return {"failure": None, "attempts_before": attempt - 1}
        case TxSubmitted() as sent:
            return {
                "signature": sent.signature,
                "transaction": sent.transaction,
                "last_valid_block_height": sent.last_valid_block_height,
            }
        case TxConfirmed() as settled:
            return {"amount_out": settled.amount_out, "slot": settled.slot}
        case AttemptFailed() as failed:
            failure = Failure(stage=failed.stage, reason=failed.reason, detail=failed.detail)
            return {"failure": failure, "retry_at": failed.retry_at}
        case OrderFailed() as failed:
            failure = Failure(stage=failed.stage, reason=failed.reason, detail=failed.detail)
            return {"failure": failure}
        case OrderCancelled():
            return {"retry_at": None}
        case OrderExpired():
            return {"retry_at": None}
        case _:
            return {}
