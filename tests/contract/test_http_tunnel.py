"""WebSockets through the gateway: every byte arrives, nobody's slowness costs memory, and both ends end together."""

import asyncio
import os
import resource
import socket
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, WSMsgType, WSServerHandshakeError, web

from libs.service.door import OF_OUR_OWN
from libs.service.health import serve
from services.gateway import limits
from services.gateway.handshake import head_of
from services.gateway.tunnel import Tunnels
from tests.contract.http_gateway import Run, both_loops, gateway
from tests.contract.tunnel_rig import FLOOD_FRAME, FLOOD_FRAMES, HANDSHAKE, MIB, Notifier, raw_connection, tunnelled
from tests.waiting import eventually

MASKED_HELLO = b"\x81\x85\x00\x00\x00\x00hello"
PLAIN_HELLO = b"\x81\x05hello"


@both_loops
def test_messages_of_any_size_come_and_go_unchanged(run: Run) -> None:
    async def body() -> None:
        async with tunnelled() as (client, notifier, tunnels):
            headers = {"Authorization": "Bearer abc", "X-Request-Id": "req-1", "X-Forwarded-For": "10.0.0.1"}
            url = f"{client.url}/api/ws/echo?orderId=1&x=%20%C3%A9"
            async with client.session.ws_connect(url, headers=headers, max_msg_size=0) as ws:
                assert await ws.receive_str() == "orderId=1&x=%20%C3%A9"
                assert len(tunnels) == 1
                for size in (0, 1, 125, 126, 65_536, 12 * MIB):
                    data = os.urandom(size)
                    await ws.send_bytes(data)
                    assert await ws.receive_bytes() == data
                for n in range(500):
                    await ws.send_str(str(n))
                assert [await ws.receive_str() for _ in range(500)] == [str(n) for n in range(500)]
            seen = notifier.headers[0]
            assert seen["Authorization"] == "Bearer abc"
            assert seen.getall("X-Request-Id") == ["req-1"]
            assert seen.getall("X-Forwarded-For") == ["10.0.0.1, 127.0.0.1"]
            await eventually(lambda: notifier.closed == 1)

    run(body())


@both_loops
def test_a_hasty_clients_first_frame_is_not_lost(run: Run) -> None:
    async def body() -> None:
        async with tunnelled() as (client, _, _):
            reader, writer = await raw_connection(client)
            writer.write(HANDSHAKE + MASKED_HELLO)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(len(PLAIN_HELLO)) == PLAIN_HELLO
            writer.close()
            await writer.wait_closed()

    run(body())


@both_loops
def test_a_slow_reader_slows_the_sender_and_loses_nothing(run: Run) -> None:
    async def body() -> None:
        async with tunnelled() as (client, notifier, _):
            reader, writer = await raw_connection(client)
            writer.write(HANDSHAKE.replace(b"/echo", b"/flood"))
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's has it
            seen: list[int] = []

            def stuck() -> bool:
                seen.append(notifier.flooded)
                return len(seen) > 20 and len(set(seen[-20:])) == 1

            await eventually(stuck, what="the sender waits for the reader")
            assert notifier.flooded < FLOOD_FRAMES / 2
            writer.transport.resume_reading()  # type: ignore[attr-defined]  # a socket's has it
            frame = b"\x82\x7f" + len(FLOOD_FRAME).to_bytes(8, "big") + FLOOD_FRAME
            for _ in range(FLOOD_FRAMES):
                assert await reader.readexactly(len(frame)) == frame
            writer.close()
            await writer.wait_closed()
            await eventually(lambda: notifier.closed == 1)

    run(body())


@both_loops
def test_when_the_client_breaks_off_the_notifier_hears_of_it(run: Run) -> None:
    async def body() -> None:
        async with tunnelled() as (client, notifier, tunnels):
            reader, writer = await raw_connection(client)
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            assert len(tunnels) == 1
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            writer.transport.abort()
            await eventually(lambda: notifier.closed == 1)
            await eventually(lambda: len(tunnels) == 0)

    run(body())


@both_loops
def test_when_the_notifier_breaks_off_the_client_hears_of_it(run: Run) -> None:
    async def body() -> None:
        async with tunnelled() as (client, notifier, tunnels):
            ws = await client.session.ws_connect(f"{client.url}/api/ws/echo")
            await ws.send_str("x")
            assert await ws.receive_str() == "x"
            assert notifier.transport
            notifier.transport.abort()
            assert (await ws.receive()).type in (WSMsgType.CLOSED, WSMsgType.CLOSE, WSMsgType.ERROR)
            assert ws.close_code == 1006
            await eventually(lambda: len(tunnels) == 0)
            await ws.close()

    run(body())


@both_loops
def test_a_client_that_never_reads_cannot_keep_a_closed_tunnel_open(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINGER_S", 0.05)

    async def body() -> None:
        async with tunnelled() as (client, notifier, tunnels):
            reader, writer = await raw_connection(client)
            writer.write(HANDSHAKE.replace(b"/echo", b"/flood"))
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's has it
            await eventually(lambda: notifier.flooded > 0)
            assert notifier.transport
            tunnels.close()
            await eventually(lambda: len(tunnels) == 0)
            writer.transport.abort()

    run(body())


@both_loops
def test_a_refusal_is_passed_on_and_the_connection_stays_the_gateways(run: Run) -> None:
    async def body() -> None:
        async with tunnelled() as (client, _, tunnels):
            async with ClientSession(connector=TCPConnector(limit=1)) as session:
                with pytest.raises(WSServerHandshakeError) as refused:
                    await session.ws_connect(f"{client.url}/api/ws/refuse")
                assert refused.value.status == 401
            reader, writer = await raw_connection(client)
            writer.write(HANDSHAKE.replace(b"/echo", b"/refuse"))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 401 ")
            assert b"content-type: application/problem+json" in head
            assert b"www-authenticate: bearer" in head
            assert b"cache-control: no-store" in head, "some caches keep refusals, too"
            assert b"x-request-id: " in head
            assert b"x-internal" not in head
            assert await reader.readexactly(24) == b'{"code":"token_missing"}'
            writer.write(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(15) == b'{"status": "ok"}'[:15]
            writer.close()
            await writer.wait_closed()
            assert len(tunnels) == 0

    run(body())


async def test_a_page_of_another_origin_may_read_an_event_stream() -> None:
    async with tunnelled() as (client, _, _):
        asked = {"Origin": "https://app.example", "X-Request-Id": "mine", "Authorization": f"Bearer {client.token}"}
        async with client.session.get(f"{client.url}/api/stream/orders", headers=asked) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
            assert answer.headers["X-Request-Id"] == "mine"
            assert await answer.content.readuntil(b"\n\n") == b"data: 1\n\n"
        asked["Origin"] = "https://evil.example"
        async with client.session.get(f"{client.url}/api/stream/orders", headers=asked) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_an_ordinary_get_is_told_to_upgrade() -> None:
    async with tunnelled() as (client, _, _):
        for headers in ({}, {"Connection": "Upgrade", "Upgrade": "h2c"}, {"Upgrade": "websocket"}):
            answer = await client.get("/api/ws/orders", **headers)
            assert (answer.status, answer.code) == (426, "upgrade_required")
            assert answer.headers["Upgrade"] == "websocket"
        upgrade = {"Connection": "keep-alive, Upgrade", "Upgrade": "websocket"}
        answer = await client.ask("GET", "/api/ws/echo", b"{}", **upgrade)
        assert (answer.status, answer.code) == (400, "malformed_request")


async def test_more_tunnels_than_may_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with tunnelled() as (client, _, _), client.session.ws_connect(f"{client.url}/api/ws/echo"):
        monkeypatch.setattr(limits, "TUNNELS_MAX", 1)
        said = await client.get("/api/ws/echo", Connection="Upgrade", Upgrade="websocket")
        assert (said.status, said.code) == (503, "busy")


async def test_tunnels_leave_open_files_for_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    permitted = 2 * OF_OUR_OWN
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (permitted, permitted))
    async with tunnelled() as (client, _, tunnels), AsyncExitStack() as stack:

        async def open_as_many_as_take_all() -> None:
            for _ in range(permitted // 2):  # each takes two
                await stack.enter_async_context(client.session.ws_connect(f"{client.url}/api/ws/echo"))

        with pytest.raises(WSServerHandshakeError, match="503"):
            await open_as_many_as_take_all()
        assert len(tunnels)
        assert (await client.get("/api/orders")).status == 200


@both_loops
def test_open_tunnels_do_not_hold_up_the_end_of_the_gateway(run: Run) -> None:
    async def body() -> None:
        notifier = Notifier()
        async with serve(notifier.app(), "127.0.0.1", 0) as port, ClientSession() as session:
            async with gateway(tunnels=Tunnels(f"http://127.0.0.1:{port}")) as client:
                ws = await session.ws_connect(f"{client.url}/api/ws/echo")
            # The gateway has ended, and drained, with the socket still open at the client.
            last = await ws.receive()
            assert (last.type, last.data) == (WSMsgType.CLOSE, 4001)
            assert str(last.extra).startswith("restarting, reconnect in ")
            await eventually(lambda: notifier.closed == 1)

    run(body())


@both_loops
def test_who_reads_nothing_slows_the_sender_from_the_first_byte(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = 0

    def far_away(request: web.Request, *rest: Any) -> bytes:
        """The system takes little for a connection to far away."""
        assert request.transport
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return head_of(request, *rest)

    monkeypatch.setattr("services.gateway.tunnel.head_of", far_away)

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Sends so much with its answer that the client's connection is full at once."""
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        with suppress(ConnectionError):
            while sent < FLOOD_FRAMES:
                writer.write(b"\x82\x7f" + MIB.to_bytes(8, "big") + FLOOD_FRAME)
                await writer.drain()
                sent += 1

    async def body() -> None:
        async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
            tunnels = Tunnels(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            async with gateway(tunnels=tunnels) as client:
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.setblocking(False)
                port = int(client.url.rpartition(":")[2])
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
                await asyncio.get_running_loop().sock_sendall(sock, HANDSHAKE)
                seen: list[int] = []

                def stuck() -> bool:
                    seen.append(sent)
                    return len(seen) > 20 and len(set(seen[-20:])) == 1

                await eventually(stuck, what="the sender waits for the reader")
                assert sent < FLOOD_FRAMES / 2
                sock.close()
                await eventually(lambda: len(tunnels) == 0)

    run(body())


@both_loops
def test_what_is_unsent_when_the_notifier_closes_still_comes(run: Run) -> None:
    async def body() -> None:
        async with tunnelled() as (client, notifier, tunnels):
            slow = socket.socket()
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", int(client.url.rpartition(":")[2])))
            reader, writer = await asyncio.open_connection(sock=slow)
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            [end] = tunnels._open
            end._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's has it
            text = b"x" * 60_000
            writer.write(b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text)
            await eventually(lambda: end._transport.get_write_buffer_size() > 0, what="the client is slow")
            assert notifier.transport
            notifier.transport.close()
            await eventually(lambda: end.peer._lost, what="the gateway has heard of it")
            writer.transport.resume_reading()  # type: ignore[attr-defined]  # a socket's has it
            came = await reader.read(-1)
            writer.close()
            assert came == b"\x81\x7e" + len(text).to_bytes(2, "big") + text

    run(body())
