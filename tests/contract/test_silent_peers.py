"""Who takes a connection and says nothing is told in words: a timeout has no text of its own."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from libs.client import Client, Unreachable
from libs.orders.migrate import MigrationError, migrate
from libs.orders.store import StoreUnavailable, open_store
from services.gateway.accounts import Accounts, open_database
from tests.fault.proxy import proxy


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """Host and port of one who never answers."""
    told: list[asyncio.StreamWriter] = []

    async def listen(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.append(writer)

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
        for writer in told:
            writer.close()


async def test_a_silent_postgres(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.orders.connection.CONNECT_TIMEOUT_S", 0.1)
    async with open_store(f"postgresql://{silent}/none?sslmode=disable") as store:
        with pytest.raises(StoreUnavailable, match="TimeoutError"):
            await store.checkpoints()


async def test_a_silent_postgres_at_a_migration(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.orders.migrate.CONNECT_TIMEOUT_S", 0.1)
    with pytest.raises(MigrationError, match="TimeoutError"):
        await migrate(f"postgresql://{silent}/none?sslmode=disable")


async def test_a_silent_postgres_leaves_time_to_the_others_that_are_named(silent: str, database_url: str) -> None:
    at = urlsplit(database_url)
    who = at.netloc.rpartition("@")[0]
    async with proxy(lambda: database_url) as way:
        url = f"postgresql://{who}@{silent},127.0.0.1:1,127.0.0.1:{way.port}{at.path}"
        async with open_store(url) as store, open_database(url) as accounts:
            assert await store.checkpoints() == {}
            await Accounts(accounts).check()
        assert await migrate(url) == []


async def test_a_silent_gateway(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.client.transport.ANSWER_S", 0.1)
    monkeypatch.setattr("libs.client.transport.SILENT_S", 0.1)
    async with Client(f"http://{silent}", refresh_token="swr_x", tries_max=1) as client:
        with pytest.raises(Unreachable, match=r"/api/orders/x: \w"):
            await client.order("x")
        with pytest.raises(Unreachable, match=r"/api/quotes/stream: \w"):
            await anext(client.quotes("SOL", "USDC", 1))
        with pytest.raises(Unreachable, match=r"/api/auth/refresh: \w"):
            await client._transport.renew("")
