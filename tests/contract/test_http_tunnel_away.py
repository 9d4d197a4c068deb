"""WebSockets where there is no notifier, or something else in its place."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from libs.service.settings import ConfigurationError
from services.gateway import limits
from services.gateway.tunnel import Tunnels
from tests.contract.http_gateway import Run, both_loops, gateway


async def _says_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _talks_nonsense(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example.com ESMTP\r\n\r\n")
    await writer.drain()


async def _never_ends(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 2 * limits.ANSWER_BYTES_MAX)
    await writer.drain()


async def _promises_much(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % (2 * limits.ANSWER_BYTES_MAX))
    await writer.drain()


async def _counts_backwards(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: -5\r\n\r\n")
    await writer.drain()


async def _stays_silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    "answer", [_says_nothing, _talks_nonsense, _never_ends, _promises_much, _counts_backwards, _stays_silent]
)
@both_loops
def test_a_notifier_that_answers_nothing_sensible_is_away(
    run: Run,
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "ANSWER_TIMEOUT_S", 0.3)

    async def body() -> None:
        writers: list[asyncio.StreamWriter] = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            await answer(reader, writer)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, gateway(tunnels=Tunnels(f"http://127.0.0.1:{port}")) as client:
            said = await client.get("/api/ws/orders", Connection="Upgrade", Upgrade="websocket")
            assert (said.status, said.code) == (503, "notifier_unavailable")
            for writer in writers:
                writer.close()

    run(body())


async def test_a_notifier_that_is_not_there_is_away() -> None:
    async with gateway(tunnels=Tunnels("http://127.0.0.1:9")) as client:
        said = await client.get("/api/ws/orders", Connection="Upgrade", Upgrade="websocket")
        assert (said.status, said.code) == (503, "notifier_unavailable")


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "ws://127.0.0.1:1", "127.0.0.1:8081", "http://"])
def test_an_address_of_the_notifier_that_cannot_be_used_is_refused_at_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match="NOTIFIER_URL"):
        Tunnels(url)
