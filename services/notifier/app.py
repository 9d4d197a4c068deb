"""`GET /api/ws/orders[?orderId=][&cursor=]`: the conversation on a WebSocket."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeGuard

import orjson
from aiohttp import WSMsgType, web

from libs.service.health import Health, health_routes
from libs.service.tokens import Claims, InvalidToken
from services.notifier import observe
from services.notifier.access import Access, Wish
from services.notifier.hub import Hub
from services.notifier.limits import Close
from services.notifier.problems import UPGRADE_REQUIRED, problem
from services.notifier.stream import PATH as STREAM_PATH, OrdersStream
from services.notifier.subscriber import Subscriber
from services.notifier.wire import Message, WebSocketWire

PATH = "/api/ws/orders"


class OrdersSocket:
    """The endpoint."""

    def __init__(self, hub: Hub, access: Access) -> None:
        self._hub, self._access, self._limits = hub, access, access.limits

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Upgrade, subscribe, converse. With token or ticket in the request every refusal is a plain HTTP answer."""
        if not web.WebSocketResponse().can_prepare(request).ok:
            return problem(request, UPGRADE_REQUIRED, "Connect with a WebSocket client.")
        wish = await self._access.wish(request)
        if isinstance(wish, web.Response):
            return wish
        with self._access.counted():
            return await self._upgrade(request, wish)

    async def _upgrade(self, request: web.Request, wish: Wish) -> web.WebSocketResponse:
        limits = self._limits
        ws = web.WebSocketResponse(
            heartbeat=limits.heartbeat_s,
            max_msg_size=limits.message_bytes_max,
            compress=False,
            timeout=limits.close_grace_s,
        )
        await ws.prepare(request)
        if request.transport is None:
            return ws
        subscriber = Subscriber("", wish.orders, WebSocketWire(ws, request.transport), limits)
        claims = wish.claims or await self._first_message(ws)
        if claims is None:
            subscriber.close(Close.UNAUTHORIZED)
        elif self._access.too_many(claims.user_id):
            subscriber.close(Close.TOO_MANY)
        elif wish.orders and not all(map(self._access.is_order_id, wish.orders)):
            subscriber.close(Close.NOT_FOUND)
        else:
            subscriber.user = claims.user_id
            with self._access.counted_for(claims.user_id):
                await self._serve(ws, subscriber, claims, wish.cursor)
        if subscriber.closing:
            await asyncio.wait((subscriber.closing,))
        return ws

    async def _first_message(self, ws: web.WebSocketResponse) -> Claims | None:
        try:
            message = await ws.receive(timeout=self._limits.auth_wait_s)
        except TimeoutError:
            return None
        request = _object(message.data) if message.type is WSMsgType.TEXT else {}
        return self._claims(request) if request.get("op") == "auth" else None

    async def _serve(
        self, ws: web.WebSocketResponse, subscriber: Subscriber, claims: Claims, cursor: str | None
    ) -> None:
        observe.subscribed(subscriber.user, subscriber.orders)
        expiry = _at_expiry(subscriber, claims)
        try:
            await self._hub.join_or_close(subscriber, cursor)
            # The loop must run even though clients need not say anything: it answers pings and hears the close.
            async for message in ws:
                renewed = await self._answer(subscriber, message.data if message.type is WSMsgType.TEXT else b"")
                if renewed:
                    expiry.cancel()
                    expiry = _at_expiry(subscriber, renewed)
        finally:
            expiry.cancel()
            self._hub.leave(subscriber)
            observe.left(subscriber.user, subscriber.orders)

    async def _answer(self, subscriber: Subscriber, text: str | bytes) -> Claims | None:
        """Answer one message of the client; gives the claims of a new token."""
        request = _object(text)
        match request.get("op"):
            case "ping":
                subscriber.send(_message("pong"))
            case "auth":
                claims = self._claims(request)
                if claims and claims.user_id == subscriber.user:
                    subscriber.send(_message("authenticated", expiresAt=claims.expires_at.isoformat()))
                    return claims
                subscriber.close(Close.UNAUTHORIZED)
            case "subscribe" | "unsubscribe" as op:
                await self._change(subscriber, str(op), request.get("orderIds"))
            case None:
                subscriber.send(_error("bad_message", 'A message is a JSON object with "op".'))
            case _:
                subscriber.send(_error("unknown_op", 'Known are "auth", "ping", "subscribe" and "unsubscribe".'))
        return None

    async def _change(self, subscriber: Subscriber, op: str, wanted: object) -> None:
        """Listen to more orders, or to fewer; all of them or none."""
        if not _is_list_of_texts(wanted):
            return subscriber.send(_error("bad_message", 'Send {"op": …, "orderIds": ["…"]}.'))
        if subscriber.orders is None:
            detail = "This socket carries all of your orders; connect with ?orderId= to choose."
            return subscriber.send(_error("subscribed_to_all", detail))
        if op == "unsubscribe":
            self._hub.unsubscribe(subscriber, wanted)
            return subscriber.send(_message("unsubscribed", orderIds=sorted(subscriber.orders)))
        if len(subscriber.orders | set(wanted)) > self._limits.orders_per_socket_max:
            most = self._limits.orders_per_socket_max
            return subscriber.send(_error("too_many_orders", f"A socket carries at most {most} orders by name."))
        if not all(map(self._access.is_order_id, wanted)) or not await self._subscribed(subscriber, wanted):
            return subscriber.send(_error("order_not_found", "You have no order with one of these ids."))
        return subscriber.send(_message("subscribed", orderIds=sorted(subscriber.orders)))

    async def _subscribed(self, subscriber: Subscriber, order_ids: Sequence[str]) -> bool:
        try:
            return await self._hub.subscribe(subscriber, order_ids)
        except Exception as error:
            observe.snapshot_failed(subscriber.user, repr(error))
            subscriber.close(Close.TRY_LATER)
            return True

    def _claims(self, request: Mapping[str, object]) -> Claims | None:
        try:
            return self._access.verify(str(request.get("token", "")))
        except InvalidToken:
            return None


def make_app(hub: Hub, access: Access, health: Health) -> web.Application:
    """The notifier's public application."""
    app = web.Application()
    app.add_routes(
        [
            web.get(PATH, OrdersSocket(hub, access).handle),
            web.get(STREAM_PATH, OrdersStream(hub, access).handle),
            *health_routes(health),
        ]
    )
    return app


def _is_list_of_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _object(text: str | bytes) -> Mapping[str, object]:
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _at_expiry(subscriber: Subscriber, claims: Claims) -> asyncio.TimerHandle:
    left_s = (claims.expires_at - datetime.now(UTC)).total_seconds()
    return asyncio.get_running_loop().call_later(max(0.0, left_s), subscriber.close, Close.EXPIRED)


def _error(code: str, detail: str) -> Message:
    return _message("error", code=code, detail=detail)


def _message(kind: str, **members: object) -> Message:
    return Message({"type": kind, **members}, kind=kind)
