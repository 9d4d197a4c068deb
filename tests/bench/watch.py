"""Sees orders end, through one WebSocket per user or per order; as cheap as the rest of the generator."""

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple, cast

import orjson

from tests.bench.client import HEAD_END
from tests.bench.users import Crowd, Place

PATH = "/api/ws/orders"
TERMINAL = frozenset({"CONFIRMED", "FAILED", "CANCELLED", "EXPIRED"})
_WORDS = tuple(f'"{status}"'.encode() for status in TERMINAL)
PONG = 10


class WatchLost(Exception):
    """A socket was refused or closed: what happens from now on cannot be seen."""


class End(NamedTuple):
    """When an order ended (`time.perf_counter`), and how."""

    at: float
    status: str


class Watch:
    """What all sockets saw."""

    def __init__(self) -> None:
        self.ends: dict[str, End] = {}
        self.messages = 0
        self.trouble: WatchLost | None = None
        self._missing: set[str] = set()
        self._changed = asyncio.Event()

    async def until_ended(self, order_ids: Collection[str]) -> None:
        """Wait until all of them have ended.

        Raises:
            WatchLost: a socket is gone.
        """
        self._missing = set(order_ids) - self.ends.keys()
        while self._missing:
            if self.trouble:
                raise self.trouble
            self._changed.clear()
            await self._changed.wait()

    def said(self, payload: bytes) -> None:
        """One message of a socket."""
        at = time.perf_counter()
        self.messages += 1
        # Most messages tell of no end, and are not worth the cost of reading them.
        if not any(word in payload for word in _WORDS):
            return
        message = orjson.loads(payload)
        for told in (message, *message.get("orders", ())):
            if told.get("status") in TERMINAL and "orderId" in told:
                self._ended(told["orderId"], End(at, told["status"]))

    def _ended(self, order_id: str, end: End) -> None:
        self.ends.setdefault(order_id, end)
        self._missing.discard(order_id)
        if not self._missing:
            self._changed.set()

    def lost(self, reason: str) -> None:
        self.trouble = self.trouble or WatchLost(reason)
        self._changed.set()


class Socket(asyncio.Protocol):
    """One WebSocket: what comes in goes to the watch, pings are answered."""

    def __init__(self, watch: Watch, handshake: bytes) -> None:
        self._watch, self._handshake = watch, handshake
        self._data = b""
        self._leaving = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.told = asyncio.Event()
        """Its first message is there, or none will come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it
        self._transport.write(self._handshake)

    def data_received(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        if self.opened.done() or self._upgraded():
            frames, self._data = read_frames(self._data)
            for opcode, payload in frames:
                self._heard(opcode, payload)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the socket is gone: {exc or 'closed by the server'}")

    def close(self) -> None:
        self._leaving = True
        self._transport.abort()

    def _upgraded(self) -> bool:
        end = self._data.find(HEAD_END)
        if end < 0:
            return False
        if not self._data.startswith(b"HTTP/1.1 101"):
            self._fail(f"no WebSocket: {self._data[:200]!r}")
            return False
        self._data = self._data[end + len(HEAD_END) :]
        self.opened.set_result(None)
        return True

    def _heard(self, opcode: int, payload: bytes) -> None:
        match opcode:
            case 1:  # text
                self.told.set()
                self._watch.said(payload)
            case 9:  # ping
                # A client's frames are masked; a mask of zeros leaves the payload as it is.
                self._transport.write(bytes((0x80 | PONG, 0x80 | len(payload))) + bytes(4) + payload)
            case 8:  # close
                self._fail(f"the server closed the socket: {payload[2:]!r}")

    def _fail(self, reason: str) -> None:
        if self._leaving:
            return
        self._watch.lost(reason)
        self.told.set()
        if not self.opened.done():
            self.opened.set_exception(WatchLost(reason))


def read_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Opcode and payload of every whole frame of a server (unmasked, never fragmented), and the bytes that remain."""
    frames: list[tuple[int, bytes]] = []
    at, size = 0, len(data)
    while size - at >= 2:
        length, head = data[at + 1] & 0x7F, 2
        if length >= 126:
            head = 4 if length == 126 else 10
            if size - at < head:
                break
            length = int.from_bytes(data[at + 2 : at + head])
        if size - at < head + length:
            break
        frames.append((data[at] & 0x0F, data[at + head : at + head + length]))
        at += head + length
    return frames, data[at:]


class OrderSocket(Socket):
    """One that leaves when its order has ended."""

    def __init__(self, watch: Watch, handshake: bytes, order_id: str) -> None:
        super().__init__(watch, handshake)
        self._order_id = order_id

    def _heard(self, opcode: int, payload: bytes) -> None:
        super()._heard(opcode, payload)
        if self._order_id in self._watch.ends:
            self.close()


@asynccontextmanager
async def watching(crowd: Crowd) -> AsyncIterator[Watch]:
    """A socket for each user, over all of their orders, while the block runs; each has had its snapshot.

    Raises:
        WatchLost: one was refused.
        OSError: nobody listens.
    """
    watch, sockets = Watch(), list[Socket]()
    try:
        for user in crowd.users:
            handshake = _handshake(crowd.place.header, user.token)
            sockets.append(await _opened(crowd.place, partial(Socket, watch, handshake)))
        await asyncio.gather(*(socket.opened for socket in sockets))
        await asyncio.gather(*(socket.told.wait() for socket in sockets))
        yield watch
    finally:
        for socket in sockets:
            socket.close()


async def watch_order(watch: Watch, place: Place, token: str, order_id: str) -> None:
    """A socket for one order; whatever is wrong with it, the watch hears of it."""
    handshake = _handshake(place.header, token, order_id)
    try:
        await (await _opened(place, lambda: OrderSocket(watch, handshake, order_id))).opened
    except (OSError, WatchLost) as error:
        watch.lost(str(error))


async def _opened(place: Place, make: Callable[[], Socket]) -> Socket:
    _, socket = await asyncio.get_running_loop().create_connection(make, *place)
    return socket


def _handshake(host: str, token: str, order_id: str = "") -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    path = f"{PATH}?orderId={order_id}" if order_id else PATH
    return "\r\n".join((
        f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", f"Authorization: Bearer {token}", "", "",
    )).encode()  # fmt: skip
