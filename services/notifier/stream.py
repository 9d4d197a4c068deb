"""`GET /api/stream/orders[?orderId=][&cursor=]`: the same messages as Server-Sent Events, for whoever has only HTTP."""

import asyncio
from datetime import UTC, datetime

from aiohttp import web

from services.notifier import observe
from services.notifier.access import Access, Wish
from services.notifier.hub import Hub
from services.notifier.limits import Close
from services.notifier.problems import TOKEN_INVALID, problem
from services.notifier.subscriber import Subscriber
from services.notifier.wire import EventStreamWire

PATH = "/api/stream/orders"

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # proxies that collect answers would hold events back
}
_RETRY = b"retry: 1000\n\n"  # what EventSource waits before it comes back with the last id


class OrdersStream:
    """The endpoint. Each event's id is its cursor, so `Last-Event-ID` is all that coming back takes."""

    def __init__(self, hub: Hub, access: Access) -> None:
        self._hub, self._access = hub, access

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Send until the client leaves, its token expires, or this process goes."""
        wish = await self._access.wish(request, cursor=request.headers.get("Last-Event-ID"))
        if isinstance(wish, web.Response):
            return wish
        if wish.claims is None:
            return problem(request, TOKEN_INVALID, "Send the token of a login, or ?ticket=.")
        with self._access.counted(), self._access.counted_for(wish.claims.user_id):
            return await self._send(request, wish, wish.claims.user_id, wish.claims.expires_at)

    async def _send(self, request: web.Request, wish: Wish, user: str, expires_at: datetime) -> web.StreamResponse:
        response = web.StreamResponse(headers=_HEADERS)
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(_RETRY)
        transport = request.transport
        if transport is None:
            return response
        wire = EventStreamWire(transport)
        subscriber = Subscriber(user, wish.orders, wire, self._access.limits)
        observe.subscribed(user, wish.orders)
        left_s = max(0.0, (expires_at - datetime.now(UTC)).total_seconds())
        expiry = asyncio.get_running_loop().call_later(left_s, subscriber.close, Close.EXPIRED)
        try:
            await self._hub.join_or_close(subscriber, wish.cursor)
            await wire.ended.wait()
            if not transport.is_closing():
                await response.write_eof()
        finally:
            expiry.cancel()
            self._hub.leave(subscriber)
            observe.left(user, wish.orders)
        return response
