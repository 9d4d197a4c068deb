"""Only what may be signed is signed, and what cannot be built is a failed attempt: over real sockets."""

import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from solders.hash import Hash
from solders.keypair import Keypair

from libs.events.log import Snapshot
from libs.events.model import (
    AttemptFailed,
    OrderExpired,
    Reason,
    TxConfirmed,
    TxSubmitted,
)
from services.executor.wallet import Wallet
from tests.builders import NOW
from tests.contract.executor_rig import KEY, WALLET, Rig, intent, running_rig, selected, selected_at, submitted
from tests.contract.fake_chain import unsigned_for


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    async with running_rig(monkeypatch) as rig:
        yield rig


async def test_an_order_whose_time_is_over_is_not_signed(rig: Rig) -> None:
    assert await rig.handle(selected(expires_at=NOW)) == [OrderExpired(expires_at=NOW)]
    assert not rig.fake.built


async def test_an_order_whose_time_ran_out_while_it_was_built_is_not_signed(rig: Rig) -> None:
    now = selected(expires_at=NOW + timedelta(seconds=1))
    clock = iter([NOW])  # then it is over
    rig.executor._now = lambda: next(clock, NOW + timedelta(seconds=1))
    assert await rig.handle(now) == [OrderExpired(expires_at=now.order.expires_at)]
    assert rig.fake.built


async def test_an_order_whose_time_is_over_after_the_intent_is_still_settled(rig: Rig) -> None:
    now = await submitted(rig)
    late = Snapshot(now.order.model_copy(update={"expires_at": NOW}), now.event)
    assert isinstance(await rig.settled(late), TxConfirmed)


BLOCKHASH = Hash.new_unique()
STRANGERS = unsigned_for(str(Keypair().pubkey()), "", BLOCKHASH)


@pytest.mark.parametrize(
    ("body", "status", "reason", "detail"),
    [
        ({}, 503, Reason.VENUES_UNAVAILABLE, "raydium: HTTP 503"),
        ({"error": "stale", "errorCode": "X"}, 400, Reason.VENUE_REFUSED, "raydium: the venue refused to build: stale"),
        ({"error": "no\x1b[2J\r\nway"}, 400, Reason.VENUE_REFUSED, "raydium: the venue refused to build: no [2J way"),
        (None, 400, Reason.VENUE_REFUSED, "raydium: the venue refused to build: no reason given"),
        ({"error": "dry", "errorCode": "INSUFFICIENT_LIQUIDITY"}, 400, Reason.INSUFFICIENT_LIQUIDITY, "raydium:"),
        ({}, 200, Reason.VENUE_REFUSED, "raydium: venue answered nonsense: swapTransaction: Field required"),
        ([], 200, Reason.VENUE_REFUSED, "raydium: venue answered nonsense:"),
        ({"swapTransaction": "AQ==", "lastValidBlockHeight": "1"}, 200, Reason.VENUE_REFUSED, "raydium: venue"),
        (
            {"swapTransaction": "AQ==", "lastValidBlockHeight": 999},
            200,
            Reason.VENUE_REFUSED,
            "raydium: not signed: not",
        ),
        (
            {"swapTransaction": STRANGERS, "lastValidBlockHeight": 999},
            200,
            Reason.VENUE_REFUSED,
            "raydium: not signed:",
        ),
    ],
)
async def test_what_cannot_be_built_or_signed_is_a_failed_attempt(
    rig: Rig, body: Any, status: int, reason: Reason, detail: str
) -> None:
    rig.fake.build_reply = lambda _body: web.json_response(body, status=status)
    (event,) = await rig.handle(selected())
    assert isinstance(event, AttemptFailed)
    assert (event.stage, event.reason) == ("execution", reason)
    assert event.detail.startswith(detail)


async def test_what_is_built_for_one_order_is_not_signed_for_another(rig: Rig) -> None:
    """By no executor: each knows of the other's orders only what is in the transaction."""
    first, second = selected(), selected()
    same = unsigned_for(WALLET.address, first.order.id, Hash.new_unique())
    rig.fake.build_reply = lambda _body: web.json_response({"swapTransaction": same, "lastValidBlockHeight": 1_050})
    assert isinstance((await rig.handle(first))[0], TxSubmitted)
    rig.executor._wallet = Wallet(str(KEY))  # as of another process
    (event,) = await rig.handle(second)
    assert isinstance(event, AttemptFailed)
    assert event.reason is Reason.VENUE_REFUSED
    assert event.detail == "raydium: not signed: the transaction names another order"


async def test_two_orders_of_a_venue_that_names_none_are_two_transactions(rig: Rig) -> None:
    same = unsigned_for(WALLET.address, "", Hash.new_unique())
    rig.fake.build_reply = lambda _body: web.json_response({"swapTransaction": same, "lastValidBlockHeight": 1_050})
    first, second = [intent(await submitted(rig, selected())) for _ in range(2)]
    assert first.signature != second.signature


async def test_a_refusal_to_build_in_endless_brackets_is_a_failed_attempt(rig: Rig) -> None:
    raw = b'{"error":' + b"[" * 1_000 + b"]" * 1_000 + b"}"
    rig.fake.build_reply = lambda _body: web.Response(body=raw)
    (event,) = await rig.handle(selected())
    assert isinstance(event, AttemptFailed)
    assert event.reason is Reason.VENUE_REFUSED


async def test_a_route_over_a_venue_no_longer_configured_is_a_failed_attempt(rig: Rig) -> None:
    (failed,) = await rig.handle(selected_at("gone"))
    assert isinstance(failed, AttemptFailed)
    assert failed.reason is Reason.VENUES_UNAVAILABLE


async def test_the_secret_is_in_no_text_of_the_wallet() -> None:
    key = Keypair()
    wallet = Wallet(str(key))
    signed = wallet.sign(unsigned_for(wallet.address, "order", BLOCKHASH), "order")
    secret = bytes(key)[:32]
    assert secret not in base64.b64decode(signed.transaction)
    assert str(key) not in repr(wallet) + repr(signed) + str(vars(wallet).keys())
