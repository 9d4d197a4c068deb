"""A large order over two venues of the local chain: one transaction, settled as a whole or not at all."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from libs.events.memory_log import MemoryLog
from libs.events.model import AttemptFailed, Reason, RouteSelected, Status, TxSubmitted
from libs.events.reactions import EXECUTOR, ROUTER
from services.executor import settling
from services.executor.venues import SwapRequest
from services.executor.wallet import parsed
from tests.contract.market_rig import VENUES, Market
from tests.localworld import running

LARGE = "150"  # BTC: more than any venue takes near its price


@pytest.fixture
async def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Market]:
    monkeypatch.setattr(settling, "RESEND_MS", 60)
    async with running(tmp_path, slot_ms=10) as world, AsyncExitStack() as stack:
        market = Market(MemoryLog(4), world, stack)
        market.venues = (*VENUES, "orca")
        await market.start(ROUTER, "router-1")
        await market.start(EXECUTOR, "executor-1")
        try:
            yield market
        finally:
            await market.stop()


async def routes(market: Market, order_id: str) -> list[RouteSelected]:
    return [event for event in await market.events(order_id) if isinstance(event, RouteSelected)]


async def test_a_large_order_settles_over_several_venues_and_gets_more(market: Market) -> None:
    order_id = await market.order("BTC/SOL", LARGE)
    order = (await market.ended(order_id)).order
    assert order.status is Status.CONFIRMED
    (selected,) = await routes(market, order_id)
    legs = selected.route.legs
    assert len(legs) > 1
    assert sum(leg.amount_in for leg in legs) == order.amount_in
    *alone, together = selected.candidates
    assert [candidate.outcome for candidate in selected.candidates] == ["lost", "lost", "lost", "selected"]
    assert together.venue == "+".join(leg.venue for leg in legs)
    assert max(candidate.amount_out or 0 for candidate in alone) < selected.route.quoted_out
    assert order.amount_out is not None
    assert order.amount_out >= selected.route.min_out
    (sent,) = [event for event in await market.events(order_id) if isinstance(event, TxSubmitted)]
    assert len(parsed(sent.transaction).message.instructions) == len(legs)
    await market.settled_once([order_id])


async def test_an_order_that_no_venue_could_fill_alone_is_filled_by_several(market: Market) -> None:
    await market.trouble(outages=["raydium"])
    order_id = await market.order("SOL/USDC", "450000")
    assert (await market.ended(order_id)).order.status is Status.CONFIRMED
    (selected,) = await routes(market, order_id)
    assert [candidate.outcome for candidate in selected.candidates] == ["failed", "failed", "failed", "selected"]
    await market.settled_once([order_id])


async def test_small_and_large_orders_are_worked_on_together(market: Market) -> None:
    order_ids = [
        await market.order(pair, amount, user=f"user-{user}")
        for user in range(4)
        for pair, amount in (("SOL/USDC", "1"), ("BTC/SOL", LARGE), ("JUP/BTC", "10000000"), ("JUP/USDC", "3"))
    ]
    orders = [(await market.ended(order_id)).order for order_id in order_ids]
    assert {order.status for order in orders} == {Status.CONFIRMED}
    assert {len(order.route.legs) > 1 for order in orders if order.route} == {False, True}
    await market.settled_once(order_ids)


async def test_when_one_leg_gives_too_little_nothing_is_swapped(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields, asked = SwapRequest.fields, 0

    def greedy(self: SwapRequest) -> dict[str, object]:
        nonlocal asked
        asked += 1
        mine = fields(self)
        if asked == 2:  # the last leg of the first attempt
            mine["quoteResponse"]["otherAmountThreshold"] = str(2 * self.quoted_out)
        return mine

    monkeypatch.setattr(SwapRequest, "fields", greedy)
    order_id = await market.order("BTC/SOL", LARGE)
    assert (await market.ended(order_id)).order.status is Status.CONFIRMED
    (failed,) = [event for event in await market.events(order_id) if isinstance(event, AttemptFailed)]
    assert failed.reason is Reason.SLIPPAGE_EXCEEDED
    await market.settled_once([order_id])


async def test_where_the_legs_cannot_be_built_together_one_venue_does_it(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    await market.trouble(outages=["orca"])
    fields = SwapRequest.fields
    # So the legs would be paid from two wallets.
    monkeypatch.setattr(
        SwapRequest,
        "fields",
        lambda self: (
            {**fields(self), "userPublicKey": "11111111111111111111111111111112"}
            if self.quoted_out < 10**13  # of the smaller leg
            else fields(self)
        ),
    )
    order_id = await market.order("BTC/SOL", LARGE)
    order = (await market.ended(order_id)).order
    assert order.status is Status.CONFIRMED
    first, second = await routes(market, order_id)
    assert (len(first.route.legs), len(second.route.legs)) == (2, 1)
    (failed,) = [event for event in await market.events(order_id) if isinstance(event, AttemptFailed)]
    assert failed.reason is Reason.VENUE_REFUSED
    assert "cannot be made one" in failed.detail
    await market.settled_once([order_id])
