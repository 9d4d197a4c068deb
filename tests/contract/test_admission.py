"""What a client is answered that wants to hear of named orders: they are looked at once, and that before the answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import ClientResponse, WSServerHandshakeError

from libs.events.errors import LogUnavailable
from libs.events.ids import Position
from libs.events.log import Entry, Only
from libs.events.memory_log import MemoryLog
from libs.events.order import Order
from libs.orders.listed import Listed
from services.notifier.app import PATH
from services.notifier.stream import PATH as STREAM_PATH
from tests.builders import routing_started
from tests.contract.notifier_rig import LIMITS, PARTITIONS, UPGRADE, Notifier, running
from tests.waiting import eventually


@asynccontextmanager
async def asked(
    notifier: Notifier, path: str, order_id: str, user: str = "alice", **more: str
) -> AsyncIterator[ClientResponse]:
    """The answer in HTTP to either way to listen."""
    headers = {"Authorization": f"Bearer {user}"} | (UPGRADE if path == PATH else {})
    url = notifier.url.replace(PATH, path)
    async with notifier.session.get(url, headers=headers, params={"orderId": order_id, **more}) as response:
        yield response


both_ways = pytest.mark.parametrize("path", [PATH, STREAM_PATH])


async def test_an_order_is_looked_at_once(notifier: Notifier, monkeypatch: pytest.MonkeyPatch) -> None:
    order, looks, get = await notifier.requested(), list[str](), notifier.views.get

    async def counted(order_id: str) -> Order | None:
        looks.append(order_id)
        return await get(order_id)

    monkeypatch.setattr(notifier.views, "get", counted)
    async with notifier.connect("alice", order.order.id) as ws:
        assert (await ws.receive_json())["orders"][0]["version"] == 1
    assert looks == [order.order.id]


@both_ways
@pytest.mark.parametrize("whose", ["bob's", "nobody's"])
async def test_an_order_that_is_not_his_is_not_found_and_nobody_listens(
    notifier: Notifier, path: str, whose: str
) -> None:
    foreign = (await notifier.requested("bob")).order.id
    async with asked(notifier, path, foreign if whose == "bob's" else f"{foreign[:-8]}0000{foreign[-4:]}") as response:
        assert (response.status, (await response.json())["code"]) == (404, "order_not_found")
    assert not notifier.hub.listeners


@both_ways
@pytest.mark.parametrize("spelled", [str.upper, lambda order_id: order_id.replace("-", "0")])
async def test_what_is_no_order_id_is_not_looked_for(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch, path: str, spelled: Callable[[str], str]
) -> None:
    order = await notifier.requested()

    async def looked(order_id: str) -> Order | None:
        raise AssertionError(order_id)

    monkeypatch.setattr(notifier.views, "get", looked)
    async with asked(notifier, path, spelled(order.order.id)) as response:
        assert (response.status, (await response.json())["code"]) == (404, "order_not_found")


@both_ways
async def test_orders_that_cannot_be_read_now_are_said_so_before_the_answer(notifier: Notifier, path: str) -> None:
    order = await notifier.requested()

    async def away() -> None:
        raise LogUnavailable("away")

    notifier.views.before = away
    async with asked(notifier, path, order.order.id) as response:
        assert (response.status, (await response.json())["code"]) == (503, "log_unavailable")
        assert response.headers["Retry-After"] == "1"
    assert not notifier.hub.listeners


@both_ways
async def test_who_asks_while_the_process_goes_is_sent_to_another(notifier: Notifier, path: str) -> None:
    order = await notifier.requested()
    notifier.views.before = notifier.hub.drain
    async with asked(notifier, path, order.order.id) as response:
        assert (response.status, (await response.json())["retryable"]) == (503, True)
    assert not notifier.hub.listeners


async def test_what_happens_while_the_orders_are_read_is_told_after_the_answer(notifier: Notifier) -> None:
    order = await notifier.requested()

    async def moves() -> None:
        await notifier.happens_and_is_told(order, routing_started())

    notifier.views.between = moves
    async with notifier.connect("alice", order.order.id) as ws:
        assert (await ws.receive_json())["orders"][0]["version"] == 1
        assert (await ws.receive_json())["version"] == 2


@both_ways
async def test_who_leaves_before_the_answer_is_forgotten_and_counts_no_more(path: str) -> None:
    async with running(MemoryLog(PARTITIONS), replace(LIMITS, sockets_per_user_max=1)) as notifier:
        order = await notifier.requested()
        leaving = asyncio.Event()

        async def leave() -> None:
            leaving.set()
            await eventually(asking.done)

        notifier.views.before = leave

        async def ask() -> None:
            async with asked(notifier, path, order.order.id):
                pass

        asking = asyncio.create_task(ask())
        await leaving.wait()
        asking.cancel()
        await eventually(lambda: not notifier.hub.listeners)
        async with notifier.connect("alice", order.order.id) as ws:
            assert (await ws.receive_json())["type"] == "snapshot"
            with pytest.raises(WSServerHandshakeError) as refused:
                await notifier.connect("alice", order.order.id).__aenter__()
            assert refused.value.status == 429


@both_ways
@pytest.mark.parametrize("resumes", [False, True])
async def test_nothing_is_read_for_who_leaves_before_his_turn(
    path: str, resumes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(MemoryLog(PARTITIONS), replace(LIMITS, snapshots_at_once=1)) as notifier:
        first, second = await notifier.requested(), await notifier.requested()
        looked, turn = list[str](), asyncio.Event()
        get = notifier.views.get

        async def look(order_id: str) -> Order | None:
            looked.append(order_id)
            await turn.wait()
            return await get(order_id)

        monkeypatch.setattr(notifier.views, "get", look)
        more = {"cursor": await _cursor(notifier)} if resumes else {}

        async def ask(order_id: str) -> None:
            async with asked(notifier, path, order_id, **more):
                pass

        reading = asyncio.create_task(ask(first.order.id))
        await eventually(lambda: looked)
        leaving = asyncio.create_task(ask(second.order.id))
        await eventually(lambda: len(list(notifier.hub.listeners)) == 2)
        leaving.cancel()
        await asyncio.sleep(0.1)  # the server hears of it
        turn.set()
        await reading
        await eventually(lambda: not notifier.hub.listeners)
        assert looked == [first.order.id]


@both_ways
async def test_the_log_is_not_read_on_for_who_has_left(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryLog(PARTITIONS)
    async with running(log) as notifier:
        cursor, order = await _cursor(notifier), await notifier.requested()
        pages, leaving, read = list[int](), asyncio.Event(), log.read

        async def counted(
            after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
        ) -> list[Entry]:
            if not block_ms:
                pages.append(count)
            return await read(after, count, block_ms, only)

        async def leave() -> None:
            leaving.set()
            await eventually(asking.done)
            await asyncio.sleep(0.1)  # the server hears of it

        async def ask() -> None:
            async with asked(notifier, path, order.order.id, cursor=cursor):
                pass

        monkeypatch.setattr(log, "read", counted)
        notifier.views.between = leave
        asking = asyncio.create_task(ask())
        await leaving.wait()
        asking.cancel()
        await eventually(lambda: not notifier.hub.listeners)
        assert not pages


async def _cursor(notifier: Notifier) -> str:
    async with notifier.connect("alice") as ws:
        return str((await ws.receive_json())["cursor"])


async def test_who_reads_for_all_his_connections_at_once_keeps_nobody_else_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(MemoryLog(PARTITIONS), replace(LIMITS, snapshots_at_once=3)) as notifier:
        released, reading, listed = asyncio.Event(), list[str](), notifier.views.listed

        async def slowly(user: str, before: str | None, limit: int) -> tuple[list[Listed], str | None]:
            reading.append(user)
            if user == "alice":
                await released.wait()
            return await listed(user, before, limit)

        monkeypatch.setattr(notifier.views, "listed", slowly)
        async with AsyncExitStack() as stack:
            hers = [await stack.enter_async_context(notifier.connect("alice")) for _ in range(5)]
            await eventually(lambda: reading == ["alice", "alice"])
            async with asyncio.timeout(10), notifier.connect("bob") as ws:
                assert (await ws.receive_json())["type"] == "snapshot"
            assert reading == ["alice", "alice", "bob"]
            released.set()
            assert [(await ws.receive_json())["type"] for ws in hers] == ["snapshot"] * 5
