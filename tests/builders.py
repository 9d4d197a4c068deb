"""Orders and steps for tests: one line each."""

from datetime import UTC, datetime, timedelta
from typing import Any

from libs.events.commands import follow, request
from libs.events.ids import new_order_id, partition_of_user
from libs.events.log import Idempotency, Snapshot, Step
from libs.events.model import (
    AttemptFailed,
    Candidate,
    Event,
    Leg,
    OrderOpened,
    OrderRequested,
    Reason,
    Route,
    RouteSelected,
    RoutingStarted,
    TxConfirmed,
    TxSubmitted,
)
from libs.events.work import Item
from libs.quoting.venues import Venues

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SOL = "So11111111111111111111111111111111111111112"
USDC = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"


def an_order_requested(**changes: object) -> OrderRequested:
    fields: dict[str, object] = {
        "token_in": "SOL",
        "token_out": "USDC",
        "mint_in": SOL,
        "mint_out": USDC,
        "amount_in": 10 * 10**9,
        "slippage_bps": 50,
        "expires_at": NOW + timedelta(days=3650),
        **changes,
    }
    return OrderRequested.model_validate(fields)


def a_request(
    partitions: int,
    user: str = "user-1",
    idempotency: Idempotency | None = None,
    open_max: int | None = None,
    **changes: object,
) -> tuple[Step, Snapshot]:
    return request(
        an_order_requested(**changes),
        order_id=new_order_id(partition_of_user(user, partitions)),
        user=user,
        source="gateway",
        now=NOW,
        idempotency=idempotency,
        open_max=open_max,
    )


def then(before: Snapshot, *bodies: Event, source: str = "router", item: Item | None = None) -> tuple[Step, Snapshot]:
    return follow(before, bodies, source=source, now=NOW, item=item)


def as_one(*venues: Any) -> Venues:
    """As services have them."""
    return Venues(venues, split_from_bps=10)


def routing_started(attempt: int = 1) -> RoutingStarted:
    return RoutingStarted(attempt=attempt)


def route_selected(attempt: int = 1, out: int = 1_500_000_000) -> RouteSelected:
    leg = Leg(
        venue="raydium",
        pool="pool-1",
        share_bps=10_000,
        amount_in=10 * 10**9,
        amount_out=out,
        fee=1,
        fee_mint=SOL,
        quote={"outAmount": str(out)},
    )
    route = Route(legs=(leg,), quoted_out=out, net_out=out - 1, min_out=out * 995 // 1000, network_fee_lamports=5000)
    won = Candidate(venue="raydium", outcome="selected", why="most after fees", amount_out=out, net_out=out - 1)
    lost = Candidate(venue="meteora", outcome="lost", why="0.1 % less", amount_out=out - 1, net_out=out - 2)
    return RouteSelected(attempt=attempt, route=route, candidates=(won, lost))


def order_opened(attempt: int = 1) -> OrderOpened:
    return OrderOpened(attempt=attempt, wanted_out=2, best_out=1, delay_ms=60_000, until=NOW + timedelta(minutes=1))


def tx_submitted(attempt: int = 1, signature: str = "sig-1") -> TxSubmitted:
    return TxSubmitted(attempt=attempt, signature=signature, transaction="AQ==", last_valid_block_height=150)


def tx_confirmed(attempt: int = 1, signature: str = "sig-1", out: int = 1_499_000_000) -> TxConfirmed:
    return TxConfirmed(
        attempt=attempt, signature=signature, slot=7, amount_out=out, quoted_out=out, against_quote_ppm=0
    )


def attempt_failed(attempt: int = 1, delay_ms: int = 0) -> AttemptFailed:
    return AttemptFailed(
        stage="routing",
        attempt=attempt,
        reason=Reason.VENUES_UNAVAILABLE,
        detail="no venue answered",
        delay_ms=delay_ms,
        retry_at=NOW,
    )
