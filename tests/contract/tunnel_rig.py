"""A gateway that passes WebSockets on to a notifier which shows what it saw."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from libs.service.health import serve
from services.gateway.tunnel import Tunnels
from tests.contract.http_gateway import Client, gateway
from tests.waiting import eventually

MIB = 1024 * 1024

HANDSHAKE = (
    b"GET /api/ws/echo HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

FLOOD_FRAME, FLOOD_FRAMES = b"x" * MIB, 64


@dataclass
class Notifier:
    """Answers like a notifier would, and shows what it saw."""

    headers: list[Any] = field(default_factory=list)
    open: int = 0
    closed: int = 0
    flooded: int = 0
    transport: asyncio.Transport | None = None

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/ws/echo", self.echo),
                web.get("/api/ws/flood", self.flood),
                web.get("/api/ws/refuse", self.refuse),
                web.get("/api/stream/orders", self.stream),
            ]
        )
        return app

    @asynccontextmanager
    async def _socket(self, request: web.Request) -> AsyncIterator[web.WebSocketResponse]:
        self.headers.append(request.headers)
        self.transport = request.transport
        ws = web.WebSocketResponse(max_msg_size=0, compress=False)
        await ws.prepare(request)
        self.open += 1
        try:
            yield ws
        finally:
            self.closed += 1

    async def echo(self, request: web.Request) -> web.StreamResponse:
        async with self._socket(request) as ws:
            if request.query_string:
                await ws.send_str(request.rel_url.raw_query_string)
            async for message in ws:
                await (ws.send_str if message.type is WSMsgType.TEXT else ws.send_bytes)(message.data)
        return ws

    async def flood(self, request: web.Request) -> web.StreamResponse:
        async with self._socket(request) as ws:
            for _ in range(FLOOD_FRAMES):
                await ws.send_bytes(FLOOD_FRAME)
                self.flooded += 1
        return ws

    async def refuse(self, request: web.Request) -> web.Response:
        headers = {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store", "X-Internal": "1"}
        headers["Content-Type"] = "application/problem+json"
        return web.Response(status=401, body=b'{"code":"token_missing"}', headers=headers)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        return response


@asynccontextmanager
async def tunnelled() -> AsyncIterator[tuple[Client, Notifier, Tunnels]]:
    notifier = Notifier()
    async with serve(notifier.app(), "127.0.0.1", 0) as port:
        tunnels = Tunnels(f"http://127.0.0.1:{port}")
        async with gateway(tunnels=tunnels, cors_origins=frozenset({"https://app.example"})) as client:
            yield client, notifier, tunnels
            await eventually(lambda: len(tunnels) == 0, what="every tunnel is closed")


async def raw_connection(client: Client) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(client.url.rpartition(":")[2]))
