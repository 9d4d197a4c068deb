"""The client's socket for orders against a real gateway in this process: what it makes of closes and odd orders."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import ClientConnectionResetError, ClientSession, web
from aiohttp.test_utils import TestServer

from libs.client import ApiError, Client, Unreachable, entry as entry_module
from libs.client.entry import IN_HAND_MAX
from libs.events.memory_log import MemoryLog
from services.gateway.callers import Caller, Callers
from tests.contract.http_gateway import PARTITIONS, gateway


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with gateway(log=MemoryLog(PARTITIONS)) as http, Client(http.url, token=http.token) as client:
        yield client


async def test_a_socket_that_has_lasted_as_long_as_its_key_may_is_followed_by_the_next(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_in = 0
    by_text = Callers.by_text

    async def for_a_moment(self: Callers, text: str, scope: str | None) -> Caller:
        nonlocal let_in
        let_in += 1
        caller = await by_text(self, text, scope)
        return replace(caller, expires_at=datetime.now(UTC) + timedelta(seconds=0.2)) if let_in == 1 else caller

    monkeypatch.setattr(Callers, "by_text", for_a_moment)
    async with asyncio.timeout(20), client.entry() as entry:
        await entry.place("SOL", "USDC", 1)
        await asyncio.sleep(0.4)  # its end is a time, and nothing else
        await entry.place("SOL", "USDC", 1)
    assert let_in == 2


async def test_an_order_that_is_no_json_is_refused_to_who_placed_it(client: Client) -> None:
    async with asyncio.timeout(20), client.entry() as entry:
        with pytest.raises(TypeError):
            await entry.place("SOL", "USDC", 1, limitPrice=Decimal("0.5"))
        assert (await entry.place("SOL", "USDC", 1)).status == "PENDING"


async def test_an_order_the_gateway_cannot_read_is_refused_and_the_rest_goes_on(client: Client) -> None:
    async with asyncio.timeout(20), client.entry() as entry:
        odd, placed = await asyncio.gather(
            entry.place("SOL", "USDC", 1, slippageBps=10**80), entry.place("SOL", "USDC", 1), return_exceptions=True
        )
        assert isinstance(odd, ApiError)
        assert odd.code == "bad_message"
        assert not isinstance(placed, BaseException)
        assert placed.status == "PENDING"


async def test_an_order_that_is_too_long_is_refused_and_the_rest_goes_on(client: Client) -> None:
    async with asyncio.timeout(20), client.entry() as entry:
        odd, *placed = await asyncio.gather(
            entry.place("SOL", "USDC", 1, metadata={"note": "x" * 100_000}),
            *(entry.place("SOL", "USDC", 1) for _ in range(3)),
            return_exceptions=True,
        )
        assert isinstance(odd, ApiError)
        assert (odd.status, odd.code) == (413, "body_too_large")
        assert not any(isinstance(one, BaseException) for one in placed)
    assert len([order async for order in client.orders()]) == 3


async def test_who_never_heard_of_his_order_can_ask_for_it_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also who left the key to the client."""
    once, lost = client._transport._once, True

    async def sometimes(*asked: Any) -> Any:
        given = await once(*asked)
        if lost:
            raise ClientConnectionResetError
        return given

    monkeypatch.setattr(client._transport, "_once", sometimes)
    client._transport.tries_max = 1
    with pytest.raises(Unreachable) as unheard:
        await client.place("SOL", "USDC", 1)
    lost = False
    again = await client.place("SOL", "USDC", 1, key=unheard.value.key)
    assert [order.order_id async for order in client.orders()] == [again.order_id]


async def test_who_left_the_socket_can_ask_for_his_order_again(client: Client) -> None:
    async with client.entry() as entry:
        placing = asyncio.create_task(entry.place("SOL", "USDC", 1))
        await asyncio.sleep(0)  # asked, and not sent yet
    with pytest.raises(Unreachable) as unheard:
        await placing
    assert (await client.place("SOL", "USDC", 1, key=unheard.value.key)).status == "PENDING"


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_module, "pause", lambda _tried: 0.02)


@pytest.mark.usefixtures("quickly")
async def test_who_waits_for_a_gateway_that_is_away_is_told_after_so_many_tries() -> None:
    """With the key of each, and also those for whom there was no room yet; and the socket is good for more."""
    async with gateway(log=MemoryLog(PARTITIONS)) as http:
        url, token = http.url, http.token
        async with Client(url, token=token, tries_max=3) as client, ClientSession("http://127.0.0.1:9") as away:
            transport = client._transport
            there, transport.session = transport.session, away
            async with asyncio.timeout(20), client.entry() as entry:
                keys = [f"k{n}" for n in range(2 * IN_HAND_MAX)]
                many = [entry.place("SOL", "USDC", 1, key=key) for key in keys]
                *unheard, uncancelled = await asyncio.gather(*many, entry.cancel("x"), return_exceptions=True)
                assert [one.key for one in unheard if isinstance(one, Unreachable)] == keys
                assert isinstance(uncancelled, Unreachable)
                transport.session = there
                assert (await entry.place("SOL", "USDC", 1, key="k0")).status == "PENDING"


@pytest.mark.usefixtures("quickly")
async def test_an_order_that_no_socket_lasts_for_is_given_up_after_so_many() -> None:
    opened = 0

    async def lets_in_and_leaves(request: web.Request) -> web.WebSocketResponse:
        nonlocal opened
        opened += 1
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.receive()
        await ws.close(code=1013)
        return ws

    app = web.Application()
    app.add_routes([web.get("/api/ws/entry", lets_in_and_leaves)])
    async with (
        asyncio.timeout(20),
        TestServer(app) as server,
        Client(str(server.make_url("/")), token="t", tries_max=3) as client,
        client.entry() as entry,
    ):
        with pytest.raises(Unreachable, match="closed with 1013") as unheard:
            await entry.place("SOL", "USDC", 1, key="k")
    assert (unheard.value.key, opened) == ("k", 3)
