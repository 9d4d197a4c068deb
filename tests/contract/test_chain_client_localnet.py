"""Router and executor against the local chain over HTTP, on the memory log: every order ends, settled at most once."""

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from libs.events.memory_log import MemoryLog
from libs.events.model import Reason, RouteSelected, Status, TxConfirmed, TxSubmitted
from libs.events.reactions import EXECUTOR, ROUTER
from services.executor import settling
from services.executor.venues import SwapRequest
from tests.contract.market_rig import VENUES, Market
from tests.localworld import running
from tests.waiting import eventually


@pytest.fixture
async def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Market]:
    monkeypatch.setattr(settling, "RESEND_MS", 60)
    async with running(tmp_path, slot_ms=10) as world, AsyncExitStack() as stack:
        market = Market(MemoryLog(4), world, stack)
        try:
            yield market
        finally:
            await market.stop()


@pytest.fixture
async def at_work(market: Market) -> Market:
    await market.start(ROUTER, "router-1")
    await market.start(EXECUTOR, "executor-1")
    return market


@pytest.mark.parametrize("pair", ["SOL/USDC", "USDC/SOL", "SOL/BONK", "JUP/USDC"])
async def test_an_order_is_routed_signed_sent_and_confirmed(at_work: Market, pair: str) -> None:
    order_id = await at_work.order(pair)
    order = (await at_work.ended(order_id)).order
    assert order.status is Status.CONFIRMED
    events = await at_work.events(order_id)
    assert [type(event).__name__ for event in events] == [
        "OrderRequested", "RoutingStarted", "RouteSelected", "TxSubmitted", "TxConfirmed",
    ]  # fmt: skip
    assert order.route
    assert order.amount_out is not None
    assert order.amount_out >= order.route.min_out
    selected = events[2]
    assert isinstance(selected, RouteSelected)
    assert [candidate.venue for candidate in selected.candidates] == list(VENUES)
    await at_work.settled_once([order_id])


async def test_a_venue_out_of_service_does_not_stop_orders(at_work: Market) -> None:
    await at_work.trouble(outages=["raydium"])
    order_id = await at_work.order()
    order = (await at_work.ended(order_id)).order
    assert order.route
    assert order.route.legs[0].venue == "meteora"
    selected = (await at_work.events(order_id))[2]
    assert isinstance(selected, RouteSelected)
    assert selected.candidates[0].why == "HTTP 503"


@pytest.mark.parametrize("pair", ["SOL/USDC", "USDC/SOL", "JUP/BONK"])
async def test_an_order_is_settled_over_a_venue_of_concentrated_liquidity(market: Market, pair: str) -> None:
    market.venues = (*VENUES, "orca")
    await market.start(ROUTER, "router-1")
    await market.start(EXECUTOR, "executor-1")
    await market.trouble(outages=VENUES)
    order_id = await market.order(pair)
    order = (await market.ended(order_id)).order
    assert order.status is Status.CONFIRMED
    assert order.route
    assert order.route.legs[0].venue == "orca"
    assert order.amount_out is not None
    assert order.amount_out >= order.route.min_out
    await market.settled_once([order_id])


async def test_what_can_never_be_routed_fails_at_once(at_work: Market) -> None:
    order = (await at_work.ended(await at_work.order("SOL/USDC", "0.000000001"))).order
    assert order.status is Status.FAILED
    assert order.failure
    assert (order.failure.reason, order.attempt) == (Reason.AMOUNT_TOO_SMALL, 1)


async def test_a_pair_without_a_pool_settles_through_a_token_in_between(at_work: Market) -> None:
    order_id = await at_work.order("RAY/BONK", "1")
    order = (await at_work.ended(order_id)).order
    assert order.status is Status.CONFIRMED
    assert order.route
    assert order.route.legs[0].pool.count("+") == 1
    await at_work.settled_once([order_id])


async def test_an_order_is_settled_over_a_venue_that_knows_no_references(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = SwapRequest.fields
    monkeypatch.setattr(
        SwapRequest, "fields", lambda self: {name: one for name, one in fields(self).items() if name != "reference"}
    )
    await market.start(ROUTER, "router-1")
    await market.start(EXECUTOR, "executor-1")
    order_ids = [await market.order() for _ in range(3)]
    assert {(await market.ended(order_id)).order.status for order_id in order_ids} == {Status.CONFIRMED}
    events = [event for order_id in order_ids for event in await market.events(order_id)]
    sent = [base64.b64decode(event.transaction) for event in events if isinstance(event, TxSubmitted)]
    assert [order_id.encode() in bytes_ for order_id, bytes_ in zip(order_ids, sent, strict=True)] == [True] * 3
    assert len({event.signature for event in events if isinstance(event, TxConfirmed)}) == 3


async def test_a_revert_is_routed_anew_and_a_drop_is_sent_again(at_work: Market) -> None:
    await at_work.trouble(revert_next=1, drop_next=2)
    order_id = await at_work.order()
    assert (await at_work.ended(order_id)).order.attempt == 2
    intents = [event for event in await at_work.events(order_id) if isinstance(event, TxSubmitted)]
    assert len({intent.signature for intent in intents}) == 2
    await at_work.settled_once([order_id])


async def test_a_blockhash_that_expires_unseen_is_proven_before_another_is_signed(at_work: Market) -> None:
    await at_work.trouble(drop_rate=1)
    order_id = await at_work.order()

    async def submitted() -> Any:
        held = await at_work.log.find(order_id)
        return bool(held and held.order.status is Status.SUBMITTED)

    await eventually(submitted)
    await at_work.trouble(drop_rate=0, drop_next=0, expire_blockhashes=True)
    order = (await at_work.ended(order_id)).order
    assert order.status is Status.CONFIRMED
    await at_work.settled_once([order_id])


async def test_an_executor_that_dies_with_transactions_in_flight_leaves_them_to_another(market: Market) -> None:
    await market.start(ROUTER, "router-1")
    first = await market.start(EXECUTOR, "executor-1")
    await market.trouble(outages=["rpc"])
    order_ids = [await market.order() for _ in range(20)]

    async def all_submitted() -> Any:
        held = [await market.log.find(order_id) for order_id in order_ids]
        return all(one and one.order.status is Status.SUBMITTED for one in held)

    await eventually(all_submitted)
    first.cancel()
    await market.trouble(outages=[])
    await market.start(EXECUTOR, "executor-2")
    for order_id in order_ids:
        assert (await market.ended(order_id)).order.status is Status.CONFIRMED
    await market.settled_once(order_ids)


async def test_many_orders_on_a_bad_day_with_two_workers_each_settle_once(at_work: Market) -> None:
    await at_work.start(ROUTER, "router-2")
    await at_work.start(EXECUTOR, "executor-2")
    await at_work.trouble(drop_rate=0.3, revert_rate=0.2, slippage_rate=0.1)
    pairs = ["SOL/USDC", "USDC/SOL", "SOL/BONK"]
    order_ids = [await at_work.order(pairs[n % 3], "0.1", f"user-{n % 7}") for n in range(60)]
    for order_id in order_ids:
        assert (await at_work.ended(order_id)).order.status is Status.CONFIRMED
    await at_work.settled_once(order_ids)
