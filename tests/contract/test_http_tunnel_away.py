"""WebSockets where there is no notifier, or something else in its place."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from libs.service.settings import ConfigurationError
from services.gateway import limits
from services.gateway.tunnel import Tunnels
from tests.contract.http_gateway import Run, both_loops, gateway
from tests.contract.tunnel_rig import HANDSHAKE, raw_connection


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


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def one_after_another(every_s: float) -> AsyncIterator[Callable[[], Coroutine[Any, Any, int]]]:
    """Behind a notifier that answers one at a time, and the first that asks never."""
    waiting: list[asyncio.StreamWriter] = []
    turn = asyncio.Lock()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting.append(writer)
        if len(waiting) > 1:
            async with turn:
                await asyncio.sleep(every_s)
                writer.write(NOT_FOUND)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, gateway(tunnels=Tunnels(f"http://127.0.0.1:{port}")) as client:

        async def asked() -> int:
            return (await client.get("/api/ws/orders", Connection="Upgrade", Upgrade="websocket")).status

        yield asked
        for writer in waiting:
            writer.close()


async def test_who_waits_behind_others_is_not_told_that_the_notifier_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER_TIMEOUT_S", 0.5)
    async with one_after_another(every_s=0.1) as asked:
        forgotten = asyncio.create_task(asked())
        await asyncio.sleep(0.1)  # until it is the first in line, which is never answered
        assert await asyncio.gather(*(asked() for _ in range(12))) == [404] * 12
        assert await forgotten == 503


async def test_who_is_forgotten_while_others_are_answered_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "ANSWER_BEHIND_OTHERS_S", 1.0)
    async with asyncio.timeout(30), one_after_another(every_s=0.01) as asked:
        forgotten = asyncio.create_task(asked())
        await asyncio.sleep(0.1)  # until it is the first in line, which is never answered
        while not forgotten.done():
            assert await asked() == 404
        assert await forgotten == 503


@both_loops
def test_who_leaves_before_the_notifier_has_answered_is_not_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STILL_THERE_EVERY_S", 0.1)
    came, heard_the_end = asyncio.Event(), asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        came.set()
        with suppress(ConnectionResetError):
            await reader.read()
        heard_the_end.set()
        writer.close()

    async def body() -> None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, gateway(tunnels=Tunnels(f"http://127.0.0.1:{port}")) as client:
            _, writer = await raw_connection(client)
            writer.write(HANDSHAKE)
            await came.wait()
            writer.close()
            async with asyncio.timeout(limits.ANSWER_TIMEOUT_S / 2):
                await heard_the_end.wait()

    run(body())


@asynccontextmanager
async def silent_notifier() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """One that answers nobody: where it is, and whether it was asked."""
    came = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", came


async def test_who_waits_for_the_notifiers_answer_has_a_place_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TUNNELS_MAX", 1)
    monkeypatch.setattr(limits, "ANSWER_TIMEOUT_S", 1.0)
    async with silent_notifier() as (url, came), gateway(tunnels=Tunnels(url)) as client:

        async def asked() -> str | None:
            return (await client.get("/api/ws/orders", Connection="Upgrade", Upgrade="websocket")).code

        first = asyncio.create_task(asked())
        await came.wait()
        assert await asked() == "busy"
        assert await first == "notifier_unavailable"
        assert await asked() == "notifier_unavailable"


async def test_who_waits_for_the_notifiers_answer_does_not_hold_up_the_end_of_the_gateway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STILL_THERE_EVERY_S", 0.1)
    async with (
        silent_notifier() as (url, came),
        gateway(tunnels=(tunnels := Tunnels(url))) as client,
        asyncio.timeout(limits.ANSWER_TIMEOUT_S / 2),
    ):
        asking = asyncio.create_task(client.get("/api/ws/orders", Connection="Upgrade", Upgrade="websocket"))
        await came.wait()
        tunnels.close()
        assert (await asking).code == "notifier_unavailable"


async def test_a_notifier_that_is_not_there_is_away() -> None:
    async with gateway(tunnels=Tunnels("http://127.0.0.1:9")) as client:
        said = await client.get("/api/ws/orders", Connection="Upgrade", Upgrade="websocket")
        assert (said.status, said.code) == (503, "notifier_unavailable")


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "ws://127.0.0.1:1", "127.0.0.1:8081", "http://"])
def test_an_address_of_the_notifier_that_cannot_be_used_is_refused_at_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match="NOTIFIER_URL"):
        Tunnels(url)
