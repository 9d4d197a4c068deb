"""Orders that wait for their price, over real processes, through the client library."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import pytest_asyncio

from deploy.local.stack import Stack
from libs.client import Client, Event, Order
from tests.e2e.client_rig import FIVE, a_client, system_of, watched
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with system_of(tmp_path_factory.mktemp("limits") / "data") as running:
        yield running


async def test_a_limit_order_waits_and_can_be_taken_back(stack: Stack) -> None:
    async with a_client(stack) as client:
        placed = await client.place("SOL", "USDC", 1, limitPrice="1000000")

        async def is_open() -> bool:
            return (await client.order(placed.order_id)).status == "OPEN"

        await eventually(is_open)
        assert (await client.cancel(placed.order_id)).status == "CANCELLED"
        assert [event.type for event in await watched(client, placed.order_id)][-2:] == [
            "OrderOpened",
            "OrderCancelled",
        ]
        now = await client.swap("SOL", "USDC", 1, limitPrice="0.01")
        assert now.status == "CONFIRMED"


async def test_a_limit_order_is_woken_when_the_price_moves(stack: Stack) -> None:
    """One waits for SOL to rise a little, the other for it to fall: whichever way it goes, one settles at its price."""
    async with a_client(stack) as client:

        async def woken() -> tuple[list[Event], Order] | None:
            story, settled = await first_settled_of_both_ways(client)
            opened = any(event.type == "OrderOpened" for event in story)
            return (story, settled) if opened else None  # or the price had moved before the order was there

        story, settled = await eventually(woken)
    assert [event.type for event in story][-5:] == ["OrderOpened", *FIVE[1:]]
    assert settled.status == "CONFIRMED"
    assert settled.amount_out is not None
    assert settled.amount_out >= Decimal(settled.raw["limitPrice"]) * settled.amount


async def first_settled_of_both_ways(client: Client) -> tuple[list[Event], Order]:
    sells, buys = await client.quote("SOL", "USDC", 1), await client.quote("USDC", "SOL", 100)
    prices = (sells.amount_out, buys.amount_out / 100)
    pairs = (("SOL", "USDC", 1), ("USDC", "SOL", 100))
    placed = [
        await client.place(*pair, limitPrice=f"{price * Decimal('1.00005'):.9f}")
        for pair, price in zip(pairs, prices, strict=True)
    ]
    watching = [asyncio.create_task(watched(client, order.order_id)) for order in placed]
    async with asyncio.timeout(120):
        done, _ = await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
    story = done.pop().result()
    settled = await client.order(story[0].order_id)
    await client.cancel_many([order.order_id for order in placed])
    await asyncio.gather(*watching)
    return story, settled
