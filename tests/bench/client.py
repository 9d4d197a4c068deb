"""An HTTP/1.1 client that costs the machine it measures as little as it can: prepared bytes out, status and body in."""

import asyncio
from typing import NamedTuple, cast

HEAD_END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"


class Answer(NamedTuple):
    status: int
    body: bytes


class NotHttp(Exception):
    """The server said something this client does not understand."""


def request_bytes(host: str, method: str, path: str, body: bytes = b"", token: str = "") -> bytes:
    """A whole request, ready to be written again and again."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + HEAD_END + body


def read_answer(data: bytes) -> tuple[Answer, int] | None:
    """The first answer in `data` and its length in bytes, or None while some of it is still to come.

    Raises:
        NotHttp: it is no answer, or one without a length.
    """
    end = data.find(HEAD_END)
    if end < 0:
        return None
    head = data[: end + 2].lower()
    if not head.startswith(b"http/1.1 "):
        raise NotHttp(f"not an answer: {data[:40]!r}")
    at = head.find(LENGTH)
    if at < 0:
        raise NotHttp(f"an answer without a length: {data[:40]!r}")
    length = int(head[at + len(LENGTH) : head.index(b"\r\n", at + 2)])
    whole = end + len(HEAD_END) + length
    if len(data) < whole:
        return None
    return Answer(int(head[9:12]), data[end + len(HEAD_END) : whole]), whole


class Connection(asyncio.Protocol):
    """One kept connection with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def data_received(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        if self._waiting is None or self._waiting.done():
            return
        try:
            found = read_answer(self._data)
        except (NotHttp, ValueError) as error:
            self._waiting.set_exception(error if isinstance(error, NotHttp) else NotHttp(str(error)))
            return
        if found:
            answer, length = found
            self._data = self._data[length:]
            self._waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError("closed by the server"))

    def ask(self, request: bytes) -> "asyncio.Future[Answer]":
        """Send prepared bytes; the future gives the answer.

        Raises:
            ConnectionError: from here or from the future: the connection is gone.
            NotHttp: from the future.
        """
        if self._transport is None:
            raise ConnectionResetError("closed by the server")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._waiting

    def close(self) -> None:
        if self._transport:
            self._transport.close()


async def connect(host: str, port: int) -> Connection:
    """Raises OSError when nobody listens."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
    return connection
