"""`GET /api/stream/orders[?orderId=][&cursor=]`: the same as Server-Sent Events, for clients that have only HTTP."""

from aiohttp import web

from libs.service.takeover import take_over
from services.notifier.admission import admitted
from services.notifier.connection import Connection, Context
from services.notifier.limits import Close
from services.notifier.problems import TOKEN_MISSING, problem
from services.notifier.wire import Message, chunk

PATH = "/api/stream/orders"

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # proxies that collect answers would hold events back
}
_RETRY = b"retry: 1000\n\n"  # what EventSource waits before it comes back with the last id
_END = chunk(b"")


class EventStream(Connection):
    """One client that listens. There are no close codes, so the last event says the same."""

    __slots__ = ()

    def encode(self, message: Message) -> bytes:
        return message.sse

    def say_farewell(self, close: Close, reason: str) -> None:
        last = Message({"type": "close", "code": close.code, "reason": reason}, kind="close")
        self.end(last.sse + _END)
        self.transport.close()


class OrdersStream:
    """The endpoint. Each event's id is its cursor, so `Last-Event-ID` is all that coming back takes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer with the head of a stream, and leave the rest to it."""
        asked = await self._context.access.check(request, cursor=request.headers.get("Last-Event-ID"))
        if isinstance(asked, web.Response):
            return asked
        if asked.claims is None:
            return problem(request, TOKEN_MISSING, "Send the token of a login, or ?ticket=.")
        stream = EventStream(self._context, asked.orders)

        async def answer() -> None:
            response = web.StreamResponse(headers=_HEADERS)
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(_RETRY)
            transport, _ = take_over(request, stream)
            stream.stand(transport)

        return await admitted(request, stream, asked.claims, asked.cursor, answer)
