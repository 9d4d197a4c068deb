"""The one exchange of a WebSocket that is HTTP: the client's request to the notifier, and what that says to it."""

import asyncio
from collections.abc import Mapping
from typing import cast

from aiohttp import hdrs, web

from services.gateway import limits

_OUR_HEADERS = frozenset({b"x-forwarded-for", b"x-request-id"})
_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
_ANSWER_HEADERS = frozenset({"content-type", "www-authenticate", "retry-after", "cache-control"})
_END_OF_LINE, _END_OF_HEAD = b"\r\n", b"\r\n\r\n"


def head_of(request: web.Request, request_id: str, token: str | None = None) -> bytes:
    """The request's head as it came, with who sent it and what it is called here; `token` instead of its own."""
    sender = request.remote or "unknown"
    forwarded = [*request.headers.getall(hdrs.X_FORWARDED_FOR, []), sender]
    ours = _OUR_HEADERS | _CREDENTIALS if token else _OUR_HEADERS
    path = request.raw_path.encode(errors="surrogateescape")
    lines = [
        b"GET %s HTTP/1.1" % path,
        *(b"%s: %s" % (name, value) for name, value in request.raw_headers if name.lower() not in ours),
        b"X-Forwarded-For: %s" % ", ".join(forwarded).encode(errors="surrogateescape"),
        b"X-Request-Id: %s" % request_id.encode(),
        *([b"Authorization: Bearer %s" % token.encode()] if token else []),
    ]
    return b"\r\n".join(lines) + _END_OF_HEAD


class Answer(asyncio.Protocol):
    """Collects the notifier's answer: the head of a 101 with what follows, or a whole refusal."""

    def __init__(self) -> None:
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.received = b""
        self._headers: dict[str, str] = {}
        self._body_at = self._body_bytes = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def data_received(self, data: bytes) -> None:
        self.received += data
        try:
            if not self.status and _END_OF_HEAD in self.received:
                self._read_head()
            # Behind a 101 comes the WebSocket, as much of it as arrived at once: that is no part of the answer.
            wanted = self._body_at + self._body_bytes if self.status else len(self.received)
            if wanted > limits.ANSWER_BYTES_MAX:
                raise ValueError("the answer is too large")
        except ValueError as error:
            self.fail(error)
        else:
            whole = len(self.received) >= self._body_at + self._body_bytes
            if self.endless or (self.status and whole):
                self._finish()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self.fail(ConnectionResetError("closed before it answered"))

    @property
    def endless(self) -> bool:
        """A WebSocket or an event stream: what follows the head is not ours to read."""
        return self.status == 101 or self._headers.get("content-type", "").startswith("text/event-stream")

    @property
    def behind(self) -> bytes:
        """What came behind the head."""
        return self.received[self._body_at :]

    def passed_on(self, headers: Mapping[str, str]) -> bytes:
        """All that was received, with `headers` at the end of its head."""
        head = self.received[: self._body_at - len(_END_OF_LINE)]
        ours = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
        return head + ours + _END_OF_LINE + self.behind

    def response(self) -> web.Response:
        headers = {name: value for name, value in self._headers.items() if name in _ANSWER_HEADERS}
        body = self.received[self._body_at : self._body_at + self._body_bytes]
        return web.Response(status=self.status, body=body, headers=headers)

    def _read_head(self) -> None:
        head, _, _ = self.received.partition(_END_OF_HEAD)
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ", 2)
        if not version.startswith("HTTP/1.") or not 101 <= int(status) <= 599:
            raise ValueError("the answer is not HTTP/1.1")
        self._body_at = len(head) + len(_END_OF_HEAD)
        if int(status) != 101:
            pairs = (line.partition(":") for line in lines)
            self._headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            length = self._headers.get("content-length", "0")
            if not length.isascii() or not length.isdigit():
                raise ValueError("the answer's length is not a number")
            self._body_bytes = int(length)
        self.status = int(status)

    def fail(self, error: Exception) -> None:
        """It will not be whole, if it is not yet."""
        if not self.complete.done():
            self._pause()
            self.complete.set_exception(error)

    def _finish(self) -> None:
        if not self.complete.done():
            self._pause()
            self.complete.set_result(None)

    def _pause(self) -> None:
        """Until somebody takes what comes next."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
