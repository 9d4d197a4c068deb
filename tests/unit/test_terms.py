"""Prices, floors and times in force as clients send them."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from libs.events.model import Terms
from services.gateway import dto
from services.gateway.bodies import Invalid

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = "2026-01-02T00:00:00Z"


def terms(**fields: Any) -> Terms | None:
    body = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", **fields}
    return dto.read_order(orjson.dumps(body), NOW).terms


def test_a_plain_order_has_none() -> None:
    assert terms() is None


@pytest.mark.parametrize(
    ("price", "least"),
    [
        ("150", 225_000_000),
        (150, 225_000_000),
        ("150.0000001", 225_000_001),  # rounded up: never below the price
        ("0.0000001", 1),
        ("1e2", 150_000_000),
        ("1e", None),
        ("150.5000", 225_750_000),
    ],
)
def test_a_price_is_a_least_amount_rounded_up(price: object, least: int | None) -> None:
    if least is None:
        with pytest.raises(Invalid):
            terms(limitPrice=price)
        return
    found = terms(limitPrice=price)
    assert found
    assert (found.min_out, found.time_in_force) == (least, "GTC")


def test_of_two_floors_the_higher_counts() -> None:
    found = terms(limitPrice="150", minAmountOut="230")
    assert found
    assert found.min_out == 230_000_000


def test_an_end_makes_it_good_till_then() -> None:
    found = terms(limitPrice="150", expiresAt=LATER)
    assert found
    assert found.time_in_force == "GTT"


@pytest.mark.parametrize(
    ("fields", "pointer", "code"),
    [
        ({"limitPrice": "0"}, "#/limitPrice", "price_invalid"),
        ({"limitPrice": "-1"}, "#/limitPrice", "price_invalid"),
        ({"limitPrice": True}, "#/limitPrice", "price_invalid"),
        ({"limitPrice": "1" * 30}, "#/limitPrice", "price_invalid"),
        ({"limitPrice": "9" * 20}, "#/limitPrice", "price_out_of_range"),
        ({"minAmountOut": "0.0000001"}, "#/minAmountOut", "amount_invalid"),
        ({"timeInForce": "GTC"}, "#/timeInForce", "time_in_force_needs_price"),
        ({"timeInForce": "GTT", "limitPrice": "1"}, "#/expiresAt", "time_in_force_needs_end"),
        ({"timeInForce": "GTC", "limitPrice": "1", "expiresAt": LATER}, "#/expiresAt", "time_in_force_has_no_end"),
        ({"timeInForce": "DAY"}, "#/timeInForce", "literal_error"),
        ({"clientOrderId": "no blanks"}, "#/clientOrderId", "client_order_id_invalid"),
        ({"clientOrderId": ""}, "#/clientOrderId", "client_order_id_invalid"),
        ({"metadata": {"k": "v" * 257}}, "#/metadata", "metadata_too_large"),
        ({"metadata": {str(n): "" for n in range(17)}}, "#/metadata", "metadata_too_large"),
        ({"metadata": {"k": 1}}, "#/metadata/k", "string_type"),
    ],
)
def test_what_cannot_be_is_told(fields: dict[str, Any], pointer: str, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        terms(**fields)
    assert [(fault.pointer, fault.code) for fault in refused.value.errors] == [(pointer, code)]


def test_two_ways_to_write_a_price_are_one_request() -> None:
    one, two = (
        dto.read_order(orjson.dumps({"tokenIn": "SOL", "tokenOut": "USDC", "amount": 1, "limitPrice": price}), NOW)
        for price in ("150", "150.00")
    )
    assert one.fingerprint() == two.fingerprint()
