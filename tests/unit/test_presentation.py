"""What clients see of orders and events, and what they never see."""

from typing import Any

import orjson
import pytest

from libs.events.log import Snapshot
from libs.events.model import (
    EVENT_TYPES,
    Event,
    OrderCancelled,
    OrderExpired,
    OrderFailed,
    OrderOpened,
    Reason,
    UnknownEvent,
)
from libs.events.reactions import STATUS_AFTER
from libs.orders.presentation import event_body, order_body
from tests.builders import (
    NOW,
    a_request,
    attempt_failed,
    route_selected,
    routing_started,
    then,
    tx_confirmed,
    tx_submitted,
)

JOURNEY = (routing_started(), route_selected(), tx_submitted(), tx_confirmed())


def after(*bodies: Event) -> Snapshot:
    _, snapshot = a_request(4)
    for body in bodies:
        _, snapshot = then(snapshot, body)
    return snapshot


def shown(*bodies: Event) -> dict[str, Any]:
    """The last of the events, as a client gets it."""
    snapshot = after(*bodies)
    body = event_body(snapshot.event, "e:0:1-1", snapshot.order)
    assert isinstance(body["data"], dict)
    return body["data"]


def test_a_new_order_shows_its_amount_in_whole_tokens_and_null_for_what_is_to_come() -> None:
    snapshot = after()
    assert order_body(snapshot.order) == {
        "orderId": snapshot.order.id,
        "status": "PENDING",
        "version": 1,
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amount": "10",
        "slippageBps": 50,
        "clientOrderId": None,
        "limitPrice": None,
        "minAmountOut": None,
        "timeInForce": None,
        "metadata": None,
        "attempt": 0,
        "route": None,
        "signature": None,
        "slot": None,
        "amountOut": None,
        "failure": None,
        "retryAt": None,
        "expiresAt": "2035-12-31T03:04:05.000Z",
        "createdAt": "2026-01-02T03:04:05.000Z",
        "updatedAt": "2026-01-02T03:04:05.000Z",
    }


def test_a_settled_order_shows_its_route_and_what_came_out() -> None:
    body = order_body(after(*JOURNEY).order)
    assert (body["status"], body["signature"], body["slot"], body["amountOut"]) == ("CONFIRMED", "sig-1", 7, "1499")
    assert body["route"] == {
        "venue": "raydium",
        "pool": "pool-1",
        "quotedAmountOut": "1500",
        "netAmountOut": "1499.999999",
        "minAmountOut": "1492.5",
        "networkFee": "0.000005",
        "legs": [
            {
                "venue": "raydium",
                "pool": "pool-1",
                "shareBps": 10_000,
                "amountIn": "10",
                "amountOut": "1500",
                "fee": "0.000000001",
                "feeToken": "SOL",
            }
        ],
    }


def test_a_split_order_has_no_single_venue() -> None:
    selected = route_selected()
    split = selected.route.model_copy(update={"legs": selected.route.legs * 2})
    route = shown(selected.model_copy(update={"route": split}))["route"]
    assert (route["venue"], route["pool"], len(route["legs"])) == (None, None, 2)


@pytest.mark.parametrize("count", range(len(JOURNEY) + 1))
def test_the_signed_transaction_and_raw_quotes_stay_inside(count: int) -> None:
    snapshot = after(*JOURNEY[:count])
    text = orjson.dumps([order_body(snapshot.order), event_body(snapshot.event, "c", snapshot.order)]).decode()
    for inside in ("AQ==", "outAmount", "transaction", 'quote"', "idempotency"):
        assert inside not in text


def test_a_client_sees_every_candidate_and_why_it_lost() -> None:
    won, lost = shown(routing_started(), route_selected())["candidates"]
    assert (won["venue"], won["outcome"], won["amountOut"], won["netOut"]) == (
        "raydium",
        "selected",
        "1500",
        "1499.999999",
    )
    assert (lost["venue"], lost["outcome"], lost["why"]) == ("meteora", "lost", "0.1 % less")


def test_an_event_says_where_it_is_and_where_it_leads() -> None:
    snapshot = after(routing_started())
    assert event_body(snapshot.event, "e:2:17-3", snapshot.order) == {
        "cursor": "e:2:17-3",
        "orderId": snapshot.order.id,
        "version": 2,
        "type": "RoutingStarted",
        "status": "ROUTING",
        "time": "2026-01-02T03:04:05.000Z",
        "data": {"attempt": 1},
    }


def test_an_old_event_shows_the_status_it_led_to_not_todays() -> None:
    first, today = after(), after(*JOURNEY)
    assert event_body(first.event, "c", today.order)["status"] == "PENDING"


def test_failures_carry_a_code_a_stage_and_a_sentence() -> None:
    failure = {"code": "venues_unavailable", "stage": "routing", "detail": "no venue answered"}
    assert shown(attempt_failed()) == {"attempt": 1, "failure": failure, "retryAt": "2026-01-02T03:04:05.000Z"}
    assert order_body(after(attempt_failed()).order)["failure"] == failure
    ended = OrderFailed(stage="execution", attempt=5, reason=Reason.SLIPPAGE_EXCEEDED, detail="the price moved")
    assert shown(ended)["failure"] == {"code": "slippage_exceeded", "stage": "execution", "detail": "the price moved"}


def test_a_limit_order_that_waits_shows_the_amounts_in_whole_tokens() -> None:
    opened = OrderOpened(attempt=1, wanted_out=1_600_000_000, best_out=1_500_000_000, delay_ms=1, until=NOW)
    assert shown(routing_started(), opened) == {
        "attempt": 1,
        "wantedAmountOut": "1600",
        "bestAmountOut": "1500",
        "until": "2026-01-02T03:04:05.000Z",
    }


def test_the_remaining_endings() -> None:
    assert shown(OrderCancelled()) == {"requestedBy": "client"}
    assert shown(OrderExpired(expires_at=NOW)) == {"expiresAt": "2026-01-02T03:04:05.000Z"}


def test_an_event_of_a_later_release_keeps_the_status_and_shows_no_body() -> None:
    snapshot = after(routing_started())
    event = snapshot.event.model_copy(update={"type": "OrderAmended", "data": UnknownEvent(raw='{"secret":1}')})
    body = event_body(event, "c", snapshot.order)
    assert (body["type"], body["status"], body["data"]) == ("OrderAmended", "ROUTING", {})


def test_an_amount_of_an_unknown_token_is_null_rather_than_wrong() -> None:
    order = after(*JOURNEY).order.model_copy(update={"token_out": "NEWCOIN"})
    assert order_body(order)["amountOut"] is None


def test_every_event_has_a_status() -> None:
    assert set(STATUS_AFTER) == set(EVENT_TYPES.values())
