"""Sockets for named orders, one or several: whose they must be, and what is told while they change."""

import asyncio

import pytest

from libs.events.errors import LogUnavailable
from libs.events.log import Snapshot
from services.notifier.limits import Close
from tests.builders import route_selected, routing_started
from tests.contract.notifier_rig import (
    PARTITIONS,
    UPGRADE,
    HeldBackLog,
    Notifier,
    closed_with,
    running,
    versions_of,
)
from tests.journeys import JOURNEY
from tests.waiting import eventually


async def test_one_socket_listens_to_several_orders(notifier: Notifier) -> None:
    first, second, third = [await notifier.requested() for _ in range(3)]
    async with notifier.connect("alice", first.order.id) as ws:
        await ws.receive_json()
        await ws.send_json({"op": "subscribe", "orderIds": [second.order.id]})
        snapshot, done = await ws.receive_json(), await ws.receive_json()
        assert [o["orderId"] for o in snapshot["orders"]] == [second.order.id]
        assert done == {"type": "subscribed", "orderIds": sorted([first.order.id, second.order.id])}
        for order in (third, second, first):
            first_moved = await notifier.happens(order, routing_started())
        told = [await ws.receive_json() for _ in range(2)]
        assert [body["orderId"] for body in told] == [second.order.id, first.order.id]
        await ws.send_json({"op": "unsubscribe", "orderIds": [first.order.id]})
        assert await ws.receive_json() == {"type": "unsubscribed", "orderIds": [second.order.id]}
        started = await notifier.happens(await notifier.requested(), routing_started())
        await ws.send_json({"op": "subscribe", "orderIds": [started.order.id]})
        assert [(await ws.receive_json())["type"] for _ in range(2)] == ["snapshot", "subscribed"]
        await notifier.happens(first_moved, route_selected())
        await notifier.happens(started, route_selected())
        assert (await ws.receive_json())["orderId"] == started.order.id


async def test_who_says_who_he_is_while_his_orders_cannot_be_read_is_told_to_come_back(notifier: Notifier) -> None:
    async def away() -> None:
        raise LogUnavailable("away")

    order = await notifier.requested()
    async with notifier.connect(order_id=order.order.id) as ws:
        notifier.views.before = away
        await notifier.sign_in(ws, "alice")
        assert (await asyncio.wait_for(closed_with(ws), 30))[0] == 1013


async def test_who_cannot_be_told_of_more_orders_now_is_told_to_come_back(notifier: Notifier) -> None:
    async def away() -> None:
        raise LogUnavailable("away")

    first, second = await notifier.requested(), await notifier.requested()
    async with notifier.connect("alice", first.order.id) as ws:
        await ws.receive_json()
        notifier.views.before = away
        await ws.send_json({"op": "subscribe", "orderIds": [second.order.id]})
        assert (await asyncio.wait_for(closed_with(ws), 30))[0] == 1013


async def test_subscribing_while_orders_move_misses_nothing_and_repeats_nothing(notifier: Notifier) -> None:
    first, second = await notifier.requested(), await notifier.requested()
    async with notifier.connect("alice", first.order.id) as ws:
        await ws.receive_json()

        async def both() -> None:
            one, two = first, second
            for body in JOURNEY:
                one, two = await notifier.happens(one, body), await notifier.happens(two, body)

        moving = asyncio.create_task(both())
        await ws.send_json({"op": "subscribe", "orderIds": [second.order.id]})
        versions: dict[str, list[int]] = {first.order.id: [1], second.order.id: []}
        while any(not seen or seen[-1] < 7 for seen in versions.values()):
            body = await ws.receive_json()
            if body["type"] == "snapshot":
                versions[second.order.id].append(body["orders"][0]["version"])
            elif "version" in body:
                versions[body["orderId"]].append(body["version"])
        await moving
    assert versions[first.order.id] == list(range(1, 8))
    assert versions[second.order.id] == list(range(versions[second.order.id][0], 8))


async def test_a_subscription_that_cannot_be_is_refused_and_changes_nothing(notifier: Notifier) -> None:
    mine, foreign = await notifier.requested(), await notifier.requested("bob")
    async with notifier.connect("alice", mine.order.id) as ws:
        await ws.receive_json()
        for wanted, code in (
            ([foreign.order.id], "order_not_found"),
            (["nonsense"], "order_not_found"),
            ("all", "bad_message"),
            ([], "bad_message"),
            ([mine.order.id[:-4] + f"{n:04x}" for n in range(101)], "too_many_orders"),
        ):
            await ws.send_json({"op": "subscribe", "orderIds": wanted})
            assert (await ws.receive_json())["code"] == code
        await notifier.happens(foreign, routing_started())
        await notifier.happens(mine, routing_started())
        assert (await ws.receive_json())["orderId"] == mine.order.id
    async with notifier.connect("alice") as ws:
        await ws.receive_json()
        await ws.send_json({"op": "subscribe", "orderIds": [mine.order.id]})
        assert (await ws.receive_json())["code"] == "subscribed_to_all"


@pytest.mark.parametrize("beside_an_own_order", [False, True])
async def test_a_refused_subscription_tells_nothing_that_came_meanwhile_or_after(
    notifier: Notifier, beside_an_own_order: bool
) -> None:
    mine, other, foreign = await notifier.requested(), await notifier.requested(), await notifier.requested("bob")

    moved: list[Snapshot] = []

    async def both_move() -> None:
        moved.extend([await notifier.happens_and_is_told(order, routing_started()) for order in (foreign, other)])

    async with notifier.connect("alice", mine.order.id) as ws:
        await ws.receive_json()
        notifier.views.before = both_move
        wanted = [foreign.order.id, other.order.id] if beside_an_own_order else [foreign.order.id]
        await ws.send_json({"op": "subscribe", "orderIds": wanted})
        assert (await ws.receive_json())["code"] == "order_not_found"
        for order in moved:
            await notifier.happens(order, route_selected())
        await notifier.happens(mine, routing_started())
        assert (await ws.receive_json())["orderId"] == mine.order.id


async def test_a_socket_that_is_refused_tells_nothing_that_came_meanwhile(notifier: Notifier) -> None:
    foreign = await notifier.requested("bob")

    async def moves() -> None:
        await notifier.happens_and_is_told(foreign, routing_started())

    async with notifier.connect(order_id=foreign.order.id) as ws:
        notifier.views.before = moves
        await notifier.sign_in(ws, "alice")
        assert await closed_with(ws) == (Close.NOT_FOUND.code, Close.NOT_FOUND.reason)


async def test_who_has_let_go_of_all_orders_hears_of_the_end(notifier: Notifier) -> None:
    order = await notifier.requested()
    async with notifier.connect("alice", order.order.id) as ws:
        await ws.receive_json()
        await ws.send_json({"op": "unsubscribe", "orderIds": [order.order.id]})
        assert await ws.receive_json() == {"type": "unsubscribed", "orderIds": []}

        async def beaten() -> bool:
            await notifier.hub.beat()
            await ws.send_json({"op": "ping"})
            first: str = (await ws.receive_json())["type"]
            return first == "heartbeat" and bool((await ws.receive_json())["type"] == "pong")

        await eventually(beaten)
        draining = asyncio.create_task(notifier.hub.drain())
        assert (await closed_with(ws))[0] == Close.RESTARTING.code
        await draining
    assert not notifier.hub.listeners


async def test_several_orders_are_gone_on_with_together(notifier: Notifier) -> None:
    """Whoever listened to some orders names them all when he comes back: no event of any is left out."""
    first, second, other = [await notifier.requested() for _ in range(3)]
    named = [("orderId", one.order.id) for one in (first, second)]
    headers = {"Authorization": "Bearer alice"}
    async with notifier.session.ws_connect(notifier.url, headers=headers, params=named) as ws:
        snapshot = await ws.receive_json()
    assert {order["orderId"] for order in snapshot["orders"]} == {first.order.id, second.order.id}
    for order in (first, other, second):
        await notifier.happens(order, *JOURNEY)
    asked = [*named, ("cursor", snapshot["cursor"])]
    async with notifier.session.ws_connect(notifier.url, headers=headers, params=asked) as ws:
        told = [await ws.receive_json() for _ in range(12)]
    assert [(one["orderId"], one["version"]) for one in told] == [
        (order.order.id, version) for order in (first, second) for version in range(2, 8)
    ]


async def test_of_several_orders_all_must_be_ones_own(notifier: Notifier) -> None:
    mine, bobs = await notifier.requested(), await notifier.requested("bob")
    headers = {"Authorization": "Bearer alice"}
    for ids, status in (([mine, bobs], 404), ([mine] * 101, 101)):
        named = [("orderId", one.order.id) for one in ids]
        async with notifier.session.get(notifier.url, headers={**headers, **UPGRADE}, params=named) as answer:
            assert answer.status == status
    many = [("orderId", f"{number}") for number in range(101)]
    async with notifier.session.get(notifier.url, headers={**headers, **UPGRADE}, params=many) as answer:
        assert answer.status == 400


async def test_an_order_let_go_of_while_a_snapshot_is_read_does_not_close_the_socket(notifier: Notifier) -> None:
    kept, gone = await notifier.requested(), await notifier.requested()
    async with notifier.connect("alice", kept.order.id) as ws:
        await ws.receive_json()
        await ws.send_json({"op": "subscribe", "orderIds": [gone.order.id]})
        assert [(await ws.receive_json())["type"] for _ in range(2)] == ["snapshot", "subscribed"]

        (listener,) = notifier.hub.listeners

        async def let_go() -> None:
            await notifier.happens_and_is_told(gone, routing_started())
            await ws.send_json({"op": "unsubscribe", "orderIds": [gone.order.id]})
            await eventually(lambda: listener.orders == {kept.order.id})

        notifier.views.between = let_go
        notifier.hub.start_over()
        assert [(await ws.receive_json())["type"] for _ in range(2)] == ["reset", "unsubscribed"]
        assert [order["orderId"] for order in (await ws.receive_json())["orders"]] == [kept.order.id]
        await notifier.happens(kept, routing_started())
        assert (await ws.receive_json())["orderId"] == kept.order.id


async def test_the_cursor_of_a_subscription_is_not_past_what_was_told_of_the_other_orders() -> None:
    log = HeldBackLog(PARTITIONS)
    async with running(log) as notifier:
        first, second = await notifier.requested(), await notifier.requested()
        async with notifier.connect("alice", first.order.id) as ws:
            await ws.receive_json()
            first = await notifier.happens(first, routing_started())
            assert (await ws.receive_json())["version"] == 2
            log.released.clear()
            await notifier.happens(first, JOURNEY[1])
            await ws.send_json({"op": "subscribe", "orderIds": [second.order.id]})
            cursor = (await ws.receive_json())["cursor"]
        log.released.set()
        async with notifier.connect("alice", first.order.id, cursor=cursor) as ws:
            assert await versions_of(ws, first.order.id, 3) == [3]
