"""What clients see: orders and events as JSON-ready values.

camelCase names; amounts are decimal strings of whole tokens; times are RFC 3339 in UTC with milliseconds. Every key is
always there, null while it has no value. The signed transaction, raw quotes and idempotency keys stay inside.
"""

from datetime import UTC, datetime
from functools import lru_cache

from libs.events.envelope import Envelope
from libs.events.model import (
    AttemptFailed,
    Candidate,
    Event,
    Leg,
    OrderCancelled,
    OrderExpired,
    OrderFailed,
    OrderOpened,
    OrderRequested,
    Route,
    RouteSelected,
    RoutingStarted,
    Terms,
    TxConfirmed,
    TxSubmitted,
)
from libs.events.order import Failure, Order
from libs.events.reactions import STATUS_AFTER
from libs.venues.tokens import find_token, to_decimal_text

Body = dict[str, object]

_NATIVE = "SOL"  # network fees are paid in it
_NO_TERMS = Terms()


def order_body(order: Order) -> Body:
    """One order as it is now."""
    return {
        "orderId": order.id,
        "status": order.status.value,
        "version": order.version,
        "tokenIn": order.token_in,
        "tokenOut": order.token_out,
        "amount": _amount(order.amount_in, order.token_in),
        "slippageBps": order.slippage_bps,
        **_terms(order.terms, order.token_out),
        "attempt": order.attempt,
        "route": route_body(order.route, order.token_in, order.token_out) if order.route else None,
        "signature": order.signature,
        "slot": order.slot,
        "amountOut": _amount(order.amount_out, order.token_out),
        "failure": _failure(order.failure) if order.failure else None,
        "retryAt": shown_time(order.retry_at),
        "expiresAt": shown_time(order.expires_at),
        "createdAt": shown_time(order.created_at),
        "updatedAt": shown_time(order.updated_at),
    }


def event_body(event: Envelope, cursor: str, order: Order) -> Body:
    """One event of `order`, whose tokens give the amounts their decimals.

    `order` may be of any version: the status is the one `event` leads to. Only an event this release does not know
    takes the order's own, so a caller that folds passes the order as it is after `event`.
    """
    return {
        "cursor": cursor,
        "orderId": event.subject,
        "version": event.version,
        "type": event.type,
        "status": STATUS_AFTER.get(type(event.data), order.status).value,
        "time": shown_time(event.time),
        "data": _data(event.data, order.token_in, order.token_out),
    }


def _data(event: Event, token_in: str, token_out: str) -> Body:  # noqa: C901 - one case an event
    match event:
        case OrderRequested():
            return _request(event)
        case RoutingStarted():
            return {"attempt": event.attempt}
        case RouteSelected():
            return {
                "attempt": event.attempt,
                "route": route_body(event.route, token_in, token_out),
                "candidates": [candidate_body(candidate, token_out) for candidate in event.candidates],
            }
        case OrderOpened():
            return {
                "attempt": event.attempt,
                "wantedAmountOut": _amount(event.wanted_out, token_out),
                "bestAmountOut": _amount(event.best_out, token_out),
                "until": shown_time(event.until),
            }
        case TxSubmitted():
            return {
                "attempt": event.attempt,
                "signature": event.signature,
                "lastValidBlockHeight": event.last_valid_block_height,
            }
        case TxConfirmed():
            return _settlement(event, token_out)
        case AttemptFailed():
            return {"attempt": event.attempt, "failure": _failure(event), "retryAt": shown_time(event.retry_at)}
        case OrderFailed():
            return {"attempt": event.attempt, "failure": _failure(event)}
        case OrderCancelled():
            return {"requestedBy": event.requested_by}
        case OrderExpired():
            return {"expiresAt": shown_time(event.expires_at)}
        case _:
            return {}


def _request(event: OrderRequested) -> Body:
    return {
        "tokenIn": event.token_in,
        "tokenOut": event.token_out,
        "amount": _amount(event.amount_in, event.token_in),
        "slippageBps": event.slippage_bps,
        **_terms(event.terms, event.token_out),
        "expiresAt": shown_time(event.expires_at),
    }


def _settlement(event: TxConfirmed, token_out: str) -> Body:
    return {
        "attempt": event.attempt,
        "signature": event.signature,
        "slot": event.slot,
        "amountOut": _amount(event.amount_out, token_out),
        "quotedAmountOut": _amount(event.quoted_out, token_out),
        "againstQuotePpm": event.against_quote_ppm,
    }


def _terms(terms: Terms | None, token_out: str) -> Body:
    terms = terms or _NO_TERMS
    return {
        "clientOrderId": terms.client_order_id,
        "limitPrice": terms.limit_price,
        "minAmountOut": _amount(terms.min_out, token_out),
        "timeInForce": terms.time_in_force,
        "metadata": terms.metadata,
    }


def route_body(route: Route, token_in: str, token_out: str) -> Body:
    """The way an order takes, or would take."""
    # A split order has no one venue; its legs say where each share went.
    only = route.legs[0] if len(route.legs) == 1 else None
    return {
        "venue": only.venue if only else None,
        "pool": only.pool if only else None,
        "quotedAmountOut": _amount(route.quoted_out, token_out),
        "netAmountOut": _amount(route.net_out, token_out),
        "minAmountOut": _amount(route.min_out, token_out),
        "networkFee": _amount(route.network_fee_lamports, _NATIVE),
        "legs": [_leg(leg, token_in, token_out) for leg in route.legs],
    }


def _leg(leg: Leg, token_in: str, token_out: str) -> Body:
    fee_token = find_token(leg.fee_mint)
    return {
        "venue": leg.venue,
        "pool": leg.pool,
        "shareBps": leg.share_bps,
        "amountIn": _amount(leg.amount_in, token_in),
        "amountOut": _amount(leg.amount_out, token_out),
        "fee": _amount(leg.fee, leg.fee_mint),
        "feeToken": fee_token.symbol if fee_token else leg.fee_mint,
    }


def candidate_body(candidate: Candidate, token_out: str) -> Body:
    """One venue's part in a decision."""
    return {
        "venue": candidate.venue,
        "outcome": candidate.outcome,
        "why": candidate.why,
        "amountOut": _amount(candidate.amount_out, token_out),
        "netOut": _amount(candidate.net_out, token_out),
        "priceImpactPpm": candidate.price_impact_ppm,
        "tookMs": candidate.took_ms,
    }


def _failure(failed: Failure | AttemptFailed | OrderFailed) -> Body:
    return {"code": str(failed.reason), "stage": failed.stage, "detail": failed.detail}


@lru_cache(maxsize=1024)  # an order's events repeat its amounts
def _amount(units: int | None, token: str) -> str | None:
    """Null also for a token this release does not know: digits without their decimals would mislead."""
    known = None if units is None else find_token(token)
    return to_decimal_text(units, known) if units is not None and known else None


def shown_time(at: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds; None for None."""
    return _written(at) if at else None


@lru_cache(maxsize=1024)  # an order shows the same moment up to three times, and a batch of them a hundred times more
def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
