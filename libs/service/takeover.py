"""Taking a connection out of the hands of the HTTP server once its request is answered: what lasts for hours must not
keep a request, a parser and two tasks alive.
"""

import asyncio

from aiohttp import web


def take_over(request: web.Request, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
    """From now on `protocol` hears of the connection, and the caller writes to it; the handler must return `Taken`.

    Gives the connection, and what a hasty client sent behind its request.

    Raises:
        ConnectionResetError: the client has left.
    """
    server, transport = request.protocol, request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client left before it was answered")
    early = Early()
    server.set_parser(early)  # type: ignore[arg-type]  # takes what came behind the request's head, and ends parsing
    transport.set_protocol(protocol)
    # Without its transport the server cannot close it; told of a loss it forgets the connection and ends its task.
    server.transport = None
    server.connection_lost(None)
    return transport, bytes(early.data)


class Taken(web.StreamResponse):
    """Stands for an answer that is written elsewhere."""

    def __init__(self) -> None:
        super().__init__(status=101)

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to write."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


class Early:
    """A parser that keeps what a hasty client sent behind the request's head."""

    def __init__(self) -> None:
        self.data = bytearray()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """Nothing to do: the transport tells its new protocol."""
