"""A venue that quotes best and never builds does not keep orders from the others."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from libs.events.memory_log import MemoryLog
from libs.events.model import AttemptFailed, Reason, RouteSelected, Status
from libs.events.reactions import EXECUTOR, ROUTER
from services.executor.venues import SwapRequest
from tests.contract.market_rig import Market
from tests.localworld import running


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    async with running(tmp_path, slot_ms=10) as world, AsyncExitStack() as stack:
        market = Market(MemoryLog(4), world, stack)
        await market.start(ROUTER, "router-1")
        await market.start(EXECUTOR, "executor-1")
        try:
            yield market
        finally:
            await market.stop()


async def test_an_order_goes_over_another_venue_when_the_best_does_not_build(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields, best = SwapRequest.fields, list[str]()

    def broken(self: SwapRequest) -> dict[str, Any]:
        asked = fields(self)
        label = asked["quoteResponse"]["routePlan"][0]["swapInfo"]["label"]
        best.append(label)
        return {**asked, "userPublicKey": "none"} if label == best[0] else asked

    monkeypatch.setattr(SwapRequest, "fields", broken)
    order_id = await market.order("SOL/USDC", "1")
    order = (await market.ended(order_id)).order
    assert order.status is Status.CONFIRMED
    events = await market.events(order_id)
    assert [event.reason for event in events if isinstance(event, AttemptFailed)] == [Reason.VENUE_REFUSED]
    first, second = (event.route.legs[0].venue for event in events if isinstance(event, RouteSelected))
    assert first != second
    await market.settled_once([order_id])
