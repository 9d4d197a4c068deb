"""Thousands of WebSockets of one user that count what they hear.

`python -m tests.bench.listeners HOST PORT TOKEN SOCKETS MUTE`: a process of its own on bare sockets, so that it costs
the cores it shares little. What comes is told apart by its first bytes, and never read as JSON but for a cursor to come
back with. Talks in lines of JSON: one when every socket is open, then one for each number read, when every socket has
had so many events in all.
"""

import base64
import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from zlib import crc32

import orjson

from tests.bench.client import HEAD_END
from tests.bench.machine import raise_file_limit

READ_BYTES = 1 << 14
OPENED_AT_ONCE = 50
WITHIN_S = 120.0
RECONNECT_S = 0.2
WHOLE = b"\x81\x7e"  # a text of 126 bytes or more
HEAD_BYTES = 120  # the kind of a message shows within these
EVENT = b'{"cursor":'  # how events usually begin
NO_EVENTS = (b'"type":"snapshot"', b'"type":"heartbeat"', b'"type":"reset"')


class Lost(Exception):
    """Not everybody heard what there was, in time."""


class Listener:
    """One socket: how many events it had, a sum over their bytes, and its newest message."""

    __slots__ = ("count", "data", "last", "sock", "sum", "upgraded")

    def __init__(self) -> None:
        self.count = self.sum = 0
        self.data = self.last = b""
        self.upgraded = False
        self.sock: socket.socket


class Listeners:
    def __init__(self, place: tuple[str, int], token: str, sockets: int, mute: int) -> None:
        self._place, self._token = place, token
        self._selector = selectors.DefaultSelector()
        self._mute = [self._connected("") for _ in range(mute)]
        self._all: list[Listener] = []
        self._refused: list[tuple[float, Listener]] = []  # and when to ask again
        self._lacking, self._wanted, self.reset = 0, 0, 0
        self.heard: dict[int, list[float]] = {}
        for first in range(0, sockets, OPENED_AT_ONCE):
            opened = [Listener() for _ in range(min(OPENED_AT_ONCE, sockets - first))]
            for one in opened:
                self._open(one)
            self._all += opened
            self._until(lambda these=opened: all(one.last for one in these))  # type: ignore[misc]

    def until_all_have(self, events: int) -> dict[str, object]:
        """Wait for so many in all; gives when (`time.time`) each new one was heard, by socket in the order of time."""
        self._wanted = events
        self._lacking = sum(one.count < events for one in self._all)
        self._until(lambda: not self._lacking)
        heard, self.heard = self.heard, {}
        sums = {(one.count, one.sum) for one in self._all}
        return {
            "heard_at": [sorted(times) for _, times in sorted(heard.items())],
            "same": len(sums) == 1,
            "reset": self.reset,
        }

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            if time.monotonic() > deadline:
                raise Lost(f"{self._lacking} of {len(self._all)} sockets lack events after {WITHIN_S:g} s")
            for key, _ in self._selector.select(RECONNECT_S):
                self._read(key.data)
            while self._refused and self._refused[0][0] < time.monotonic():
                self._reopen(self._refused.pop(0)[1])

    def _connected(self, cursor: str) -> socket.socket:
        sock = socket.create_connection(self._place)
        path = f"/api/ws/orders?cursor={cursor}" if cursor else "/api/ws/orders"
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall("\r\n".join((
            f"GET {path} HTTP/1.1", f"Host: {self._place[0]}:{self._place[1]}", "Upgrade: websocket",
            "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
            f"Authorization: Bearer {self._token}", "", "",
        )).encode())  # fmt: skip
        return sock

    def _open(self, one: Listener) -> None:
        cursor = orjson.loads(one.last)["cursor"] if one.last else ""
        one.data, one.upgraded = b"", False
        one.sock = self._connected(cursor)
        one.sock.setblocking(False)
        self._selector.register(one.sock, selectors.EVENT_READ, one)

    def _read(self, one: Listener) -> None:
        try:
            data = one.sock.recv(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._come_back(one)
            return
        now = time.time()
        data = one.data + data if one.data else data
        if not one.upgraded:
            end = data.find(HEAD_END)
            if end < 0:
                one.data = data
                return
            if not data.startswith(b"HTTP/1.1 101"):  # it is up, and cannot read the log yet
                self._leave(one)
                self._refused.append((time.monotonic() + RECONNECT_S, one))
                return
            one.upgraded, data = True, data[end + len(HEAD_END) :]
        if data[:2] == WHOLE and int.from_bytes(data[2:4]) == len(data) - 4:
            one.data = b""
            self._heard(one, 1, data[4:], now)
            return
        one.data = self._frames(one, data, now)

    def _frames(self, one: Listener, data: bytes, now: float) -> bytes:
        """Count whole frames; gives what remains."""
        at, size = 0, len(data)
        while size - at >= 2:
            length, head = data[at + 1] & 0x7F, 2
            if length == 126:
                head = 4
            elif length == 127:
                head = 10
            if size - at < head:
                break
            if head > 2:
                (length,) = struct.unpack_from(">H" if head == 4 else ">Q", data, at + 2)
            if size - at < head + length:
                break
            self._heard(one, data[at] & 0x0F, data[at + head : at + head + length], now)
            at += head + length
        return data[at:]

    def _heard(self, one: Listener, opcode: int, payload: bytes, now: float) -> None:
        if opcode == 9:
            # A client's frames are masked; a mask of zeros leaves the payload as it is.
            one.sock.sendall(bytes((0x8A, 0x80 | len(payload))) + bytes(4) + payload)
        if opcode != 1:
            return
        if payload.startswith(EVENT):
            one.last = payload
        elif not self._is_event(one, payload):
            return
        one.count += 1
        one.sum = (one.sum + crc32(payload)) & 0xFFFFFFFFFFFF
        self.heard.setdefault(one.count, []).append(now)
        self._lacking -= one.count == self._wanted

    def _is_event(self, one: Listener, payload: bytes) -> bool:
        head = payload[:HEAD_BYTES]
        self.reset += b'"type":"reset"' in head
        if b'"cursor"' in head:
            one.last = payload
        return not any(kind in head for kind in NO_EVENTS)

    def _leave(self, one: Listener) -> None:
        self._selector.unregister(one.sock)
        one.sock.close()

    def _come_back(self, one: Listener) -> None:
        self._leave(one)
        self._reopen(one)

    def _reopen(self, one: Listener) -> None:
        for _ in range(int(WITHIN_S / RECONNECT_S)):
            try:
                self._open(one)
            except OSError:
                time.sleep(RECONNECT_S)
            else:
                return
        raise Lost("the server did not come back")


def main(host: str, port: str, token: str, sockets: str, mute: str) -> int:
    raise_file_limit(int(sockets) + 1_000)
    listeners = Listeners((host, int(port)), token, int(sockets), int(mute))
    _say({"open": int(sockets)})
    for line in sys.stdin:
        _say(listeners.until_all_have(int(line)))
    return 0


def _say(message: dict[str, object]) -> None:
    sys.stdout.buffer.write(orjson.dumps(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
