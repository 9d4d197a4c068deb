"""WebSockets on the gateway's origin, handed over to the notifier byte by byte: no frame is looked at here."""

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from aiohttp import web

from libs.events.crash import crossing
from libs.service.door import connections_max
from libs.service.settings import ConfigurationError
from libs.service.takeover import Early, Taken
from services.gateway import limits
from services.gateway.frames import FrameEdge, restarting
from services.gateway.handshake import Answer, head_of

_LEFT = "the client left before the notifier answered"


class NotifierUnavailable(Exception):
    """The notifier cannot be reached, or did not answer as a web server should."""


class TooManyTunnels(Exception):
    """As many tunnels are open as may be."""


class Tunnels:
    """Every tunnel of this process.

    Raises:
        ConfigurationError: `notifier_url` is not an http:// address.
    """

    def __init__(self, notifier_url: str) -> None:
        parts = urlsplit(notifier_url)
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigurationError(f"NOTIFIER_URL must be http://host:port, not {notifier_url}")
        self._host, self._port = parts.hostname, parts.port or 80
        # The last quarter of the connections there may be is for all else: sockets of anybody's must not keep it out.
        self._files_permit = connections_max() * 3 // 4
        self._open: set[_End] = set()
        self._asking = 0
        self._closed = False
        self._last_heard = 0.0

    def __len__(self) -> int:
        return len(self._open)

    async def hand_over(
        self,
        request: web.Request,
        request_id: str,
        opened: Callable[[], None],
        token: str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> web.StreamResponse:
        """Let the notifier answer `request`; gives back when both connections are closed, or what it said instead.

        `opened` is called when the WebSocket stands; `token` goes in the place of what the client sent; `headers` are
        added to what the notifier answers.

        Raises:
            NotifierUnavailable, TooManyTunnels
        """
        if len(self._open) + self._asking >= min(limits.TUNNELS_MAX, self._files_permit):
            raise TooManyTunnels
        self._asking += 1  # the answer may take long, and all who wait for theirs will stand
        try:
            answer, upstream = await self._ask(request, head_of(request, request_id, token))
        finally:
            self._asking -= 1
        if not answer.endless:
            upstream.close()
            return answer.response()
        client = _client(request)
        if self._closed:
            upstream.abort()
            raise NotifierUnavailable("the gateway restarts")
        if upstream.is_closing():
            raise NotifierUnavailable("closed as soon as it had answered")
        if client is None:
            upstream.abort()
            raise ConnectionResetError(_LEFT)
        await self._splice(request, client, upstream, answer, opened, headers)
        return Taken()

    def close(self) -> None:
        """Close all, open no more; what is still to be written gets a moment, and a WebSocket is told to come back."""
        self._closed = True
        for end in list(self._open):
            end.say_farewell()
            end.close()

    async def _ask(self, request: web.Request, head: bytes) -> tuple[Answer, asyncio.Transport]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limits.CONNECT_TIMEOUT_S):
                with crossing("tunnel.open"):
                    transport, answer = await loop.create_connection(Answer, self._host, self._port)
        except (OSError, TimeoutError) as error:
            raise NotifierUnavailable(str(error) or "no connection in time") from None
        try:
            transport.write(head)
            with crossing("tunnel.ask"):
                await self._heard(answer, request)
        except (OSError, TimeoutError, ValueError) as error:
            transport.abort()
            if _client(request) is None:
                raise ConnectionResetError(_LEFT) from None
            raise NotifierUnavailable(str(error) or "no answer in time") from None
        except BaseException:
            transport.abort()
            raise
        return answer, transport

    async def _heard(self, answer: Answer, request: web.Request) -> None:
        """Wait for it: after a restart all come back at once, and a notifier that is busy with others is not away."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        next_look: asyncio.Handle

        def look() -> None:
            nonlocal next_look
            silent_at = max(asked_at, self._last_heard) + limits.ANSWER_TIMEOUT_S
            left_s = min(silent_at, asked_at + limits.ANSWER_BEHIND_OTHERS_S) - loop.time()
            if left_s <= 0:
                answer.fail(TimeoutError())
            elif self._closed:
                answer.fail(TimeoutError("the gateway restarts"))
            elif _client(request) is None:  # the notifier would answer him before those who still wait
                answer.fail(ConnectionResetError())
            else:
                next_look = loop.call_later(min(left_s, limits.STILL_THERE_EVERY_S), look)

        next_look = loop.call_soon(look)
        try:
            await answer.complete
        finally:
            next_look.cancel()
            answer.complete.cancel()  # what comes later is nobody's
        self._last_heard = loop.time()

    async def _splice(
        self,
        request: web.Request,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        answer: Answer,
        opened: Callable[[], None],
        headers: Mapping[str, str],
    ) -> None:
        server = request.protocol
        early = Early()
        server.set_parser(early)  # type: ignore[arg-type]  # takes what came behind the request head, and ends parsing
        # The server must hear of the loss, or it would hold the connection for ever.
        edge = FrameEdge() if answer.status == 101 else None
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        here, there = _End(client, ended, server.connection_lost), _End(upstream, ended)
        here.edge = there.passing = edge
        here.peer, there.peer = there, here
        client.set_protocol(here)
        upstream.set_protocol(there)
        self._open.add(here)
        try:
            opened()
            if not server.writing_paused:
                there.start_reading()
            # After that: what fills the client's connection at once must stop the reading, not be overruled by it.
            client.write(answer.passed_on(headers))
            if edge:
                edge.feed(answer.behind)
            upstream.write(bytes(early.data))
            await ended
        finally:
            self._open.discard(here)
            here.abort()
            there.abort()


def _client(request: web.Request) -> asyncio.Transport | None:
    """The client's connection; None: he has left."""
    return request.transport if request.transport and not request.transport.is_closing() else None


class _End(asyncio.Protocol):
    """One end of a tunnel: what comes in here goes out at the other end, no faster than that end takes it."""

    peer: "_End"
    edge: FrameEdge | None = None
    """Of the frames that go out here."""
    passing: FrameEdge | None = None
    """Of the frames that come in here."""

    def __init__(
        self,
        transport: asyncio.Transport,
        ended: asyncio.Future[None],
        on_lost: Callable[[Exception | None], None] | None = None,
    ) -> None:
        """`ended`: of the tunnel, when both ends are lost: what came in at one is still written at the other."""
        self._transport, self._ended, self._on_lost = transport, ended, on_lost
        self._closing: asyncio.TimerHandle | None = None
        self._lost = False

    def data_received(self, data: bytes) -> None:
        self.peer._transport.write(data)
        if self.passing:
            self.passing.feed(data)

    def eof_received(self) -> bool:
        return False  # WebSocket has no half-closed state

    def pause_writing(self) -> None:
        self.peer.stop_reading()

    def resume_writing(self) -> None:
        self.peer.start_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closing:
            self._closing.cancel()
        self._lost = True
        if self.peer._lost and not self._ended.done():
            self._ended.set_result(None)
        if self._on_lost:
            self._on_lost(exc)
        self.peer.close()

    def stop_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def start_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def say_farewell(self) -> None:
        """Tell a WebSocket that it may come back, if that does not fall into the middle of a frame."""
        if self.edge and self.edge.reached and not self._transport.is_closing():
            self._transport.write(restarting())

    def close(self) -> None:
        """Write what is still to be written, but do not wait for ever for somebody who does not read."""
        if not self._lost and self._closing is None:
            self._transport.close()
            self._closing = asyncio.get_running_loop().call_later(limits.LINGER_S, self._transport.abort)

    def abort(self) -> None:
        if not self._lost:
            self._transport.abort()
