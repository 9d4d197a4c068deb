"""The client whose access token ends while it has a session to renew it, against a real gateway and Postgres."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from libs.client import Client, Order, Unreachable, transport
from libs.events.memory_log import MemoryLog
from libs.service.tokens import issue_token
from services.gateway import limits
from services.gateway.accounts import Accounts, DatabaseUnavailable, open_database
from services.gateway.credentials import Credentials
from tests.contract.fake_venue import FakeVenue, running_world
from tests.contract.http_gateway import PARTITIONS, SECRET, gateway


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[Client]:
    """Its token has ended."""
    async with open_database(database_url) as pool, running_world() as world:
        await pool.execute("TRUNCATE users CASCADE")
        venue = await world.venue(FakeVenue(), "venue")
        async with (
            gateway(accounts=Accounts(pool), log=MemoryLog(PARTITIONS), venues=[venue]) as http,
            Client(http.url) as client,
        ):
            user = await client.sign_up("ann@example.com", "correct horse")
            client._transport.token = issue_token(user, SECRET, lifetime=timedelta(seconds=-1))
            yield client


async def placed_before(client: Client) -> list[Order]:
    return [order async for order in client.orders()]


async def test_a_stream_of_quotes_is_begun_with_a_token_that_holds(client: Client) -> None:
    several = [client.quotes("SOL", "USDC", 10) for _ in range(3)]
    firsts = await asyncio.gather(*map(anext, several))
    assert [quote.amount_out for quote in firsts] == [1500] * 3


async def test_a_stream_that_is_silent_for_long_is_dead(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUOTE_EVERY_S", 60)
    monkeypatch.setattr(transport, "SILENT_S", 0.2)
    await placed_before(client)
    quotes = client.quotes("SOL", "USDC", 10)
    await anext(quotes)
    async with asyncio.timeout(20):
        with pytest.raises(Unreachable):
            await anext(quotes)


async def test_who_gives_up_while_the_token_is_renewed_keeps_his_session(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token that renews is good once: the next one must not be lost with whoever waited for it."""
    once, renewed, told = client._transport._once, asyncio.Event(), asyncio.Event()

    async def slow(method: str, path: str, *asked: Any) -> Any:
        given = await once(method, path, *asked)
        if path.endswith("/refresh"):
            renewed.set()
            await told.wait()
        return given

    monkeypatch.setattr(client._transport, "_once", slow)
    asking = asyncio.create_task(placed_before(client))
    await renewed.wait()
    asking.cancel()
    await asyncio.wait([asking])
    told.set()
    client._transport.token = "ended again"
    assert await placed_before(client) == []
    client._transport.token = "and again"
    assert await placed_before(client) == []


async def test_a_token_that_cannot_be_renewed_now_is_renewed_with_the_next_try(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew_session, tried = Credentials.renew_session, 0

    async def not_at_first(self: Credentials, token: str) -> tuple[str, str] | None:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise DatabaseUnavailable
        return await renew_session(self, token)

    monkeypatch.setattr(Credentials, "renew_session", not_at_first)
    assert await placed_before(client) == []
    assert tried == 2
