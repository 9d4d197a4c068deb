"""One order, and five hundred, through real processes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from deploy.local.stack import Stack
from tests.checker import all_terminal, check_everything, statuses
from tests.clients import Watch, signed_up
from tests.waiting import eventually

FIVE = ["OrderRequested", "RoutingStarted", "RouteSelected", "TxSubmitted", "TxConfirmed"]
ENVIRONMENT = {
    "PORT": "0",
    "NOTIFIER_PORT": "0",
    "LOCALNET_PORT": "0",
    "LOCALNET_SLOT_MS": "50",
    "GATEWAYS": "2",
    "ROUTERS": "2",
    "EXECUTORS": "2",
    "RETRY_BASE_MS": "50",
    "RETRY_CAP_MS": "500",
}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(tmp_path / "data", env=ENVIRONMENT, durable=False) as running:
        yield running


async def test_an_order_becomes_confirmed_before_the_clients_eyes(stack: Stack) -> None:
    async with signed_up(stack.base_url) as client, client.watch() as all_orders:
        accepted = await client.order()
        order_id = accepted["orderId"]
        assert accepted["status"] == "PENDING"
        assert (await client.get(f"/api/orders/{order_id}"))["orderId"] == order_id
        assert [order["orderId"] for order in await client.all_orders()] == [order_id]
        async with client.watch(order_id) as one_order:
            await eventually(lambda: all_orders.ended(order_id), what="CONFIRMED on the socket")
            await eventually(
                lambda: one_order.ended(order_id) or one_order.snapshot["orders"][0]["status"] == "CONFIRMED"
            )

        assert [event["type"] for event in all_orders.of(order_id)] == FIVE
        assert [event["version"] for event in all_orders.of(order_id)] == [1, 2, 3, 4, 5]
        seen_from = one_order.snapshot["orders"][0]["version"]
        assert [event["version"] for event in one_order.events] == list(range(seen_from + 1, 6))
        order = await client.get(f"/api/orders/{order_id}")
        assert order["status"] == "CONFIRMED"
        assert float(order["amountOut"]) >= float(order["route"]["minAmountOut"])
        history = (await client.get(f"/api/orders/{order_id}/events"))["events"]
        assert history == all_orders.of(order_id)
    await check_everything(stack, [order_id])


def saw_all_ends(watch: Watch, mine: Sequence[str]) -> bool:
    return all(map(watch.ended, mine))


async def test_five_hundred_orders_of_twenty_clients_end_exactly_once(stack: Stack) -> None:
    clients, each = 20, 25
    async with AsyncExitStack() as exits:
        users = [await exits.enter_async_context(signed_up(stack.base_url)) for _ in range(clients)]
        watches = [await exits.enter_async_context(user.watch()) for user in users]
        posted = await asyncio.gather(*(asyncio.gather(*(user.order() for _ in range(each))) for user in users))
        ids = [[order["orderId"] for order in orders] for orders in posted]
        everything = [order_id for mine in ids for order_id in mine]
        assert len(set(everything)) == clients * each
        await all_terminal(stack, everything)
        found = await check_everything(stack, everything)

        for user, watch, mine in zip(users, watches, ids, strict=True):
            await eventually(partial(saw_all_ends, watch, mine), what="the sockets saw all ends")
            for order_id in mine:
                assert [event["version"] for event in watch.of(order_id)] == [
                    event.version for event in found[order_id]
                ]
            assert {event["orderId"] for event in watch.events} == set(mine)
            listed = await user.all_orders()
            assert [order["orderId"] for order in listed] == sorted(mine, reverse=True)
            assert {order["status"] for order in listed} == {"CONFIRMED"}
    assert statuses(found) == {"CONFIRMED": clients * each}
