"""The two ways a client may listen, WebSocket and Server-Sent Events: how one message looks on each, and its end."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

import orjson
from aiohttp import web

from services.notifier.limits import Close

_TEXT_FRAME = 0x81


class Message:
    """One JSON object, encoded at most once for each way it is sent."""

    __slots__ = ("_frame", "_sse", "cursor", "kind", "payload")

    def __init__(self, body: object, *, kind: str, cursor: str = "") -> None:
        """`kind`: name of the event for Server-Sent Events; `cursor`: where to go on after this one."""
        self.payload = orjson.dumps(body)
        self.kind, self.cursor = kind, cursor
        self._frame = self._sse = b""

    @property
    def frame(self) -> bytes:
        """A WebSocket text frame."""
        if not self._frame:
            self._frame = text_frame(self.payload)
        return self._frame

    @property
    def sse(self) -> bytes:
        """An event of a `text/event-stream`, as one HTTP chunk."""
        if not self._sse:
            name = f"id: {self.cursor}\n" if self.cursor else ""
            event = f"{name}event: {self.kind}\ndata: ".encode() + self.payload + b"\n\n"
            self._sse = chunk(event)
        return self._sse


def text_frame(payload: bytes) -> bytes:
    """An unmasked, uncompressed WebSocket text frame (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((_TEXT_FRAME, length)) + payload
    if length < 1 << 16:
        return bytes((_TEXT_FRAME, 126)) + length.to_bytes(2, "big") + payload
    return bytes((_TEXT_FRAME, 127)) + length.to_bytes(8, "big") + payload


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked HTTP body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Wire(Protocol):
    """How one client is reached."""

    transport: asyncio.Transport

    @property
    def closed(self) -> bool: ...

    def encode(self, message: Message) -> bytes: ...

    def notice_loss(self) -> None:
        """Called now and then: the peer may have gone without a word."""

    def close(self, close: Close, reason: str) -> Coroutine[Any, Any, object]: ...


class WebSocketWire:
    """A WebSocket that is open."""

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        self._ws, self.transport = ws, transport

    @property
    def closed(self) -> bool:
        return self._ws.closed

    def encode(self, message: Message) -> bytes:
        return message.frame

    def notice_loss(self) -> None:
        """Its reader does."""

    async def close(self, close: Close, reason: str) -> object:
        return await self._ws.close(code=close.code, message=reason.encode())


class EventStreamWire:
    """A `text/event-stream` that is being sent. There are no close codes, so the last event says the same."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.ended = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self.ended.is_set()

    def encode(self, message: Message) -> bytes:
        return message.sse

    def notice_loss(self) -> None:
        if self.transport.is_closing():
            self.ended.set()

    async def close(self, close: Close, reason: str) -> object:
        last = Message({"type": "close", "code": close.code, "reason": reason}, kind="close")
        if not self.transport.is_closing():
            self.transport.write(last.sse)
        self.ended.set()
        return None
