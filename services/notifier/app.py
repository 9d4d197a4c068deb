"""`GET /api/ws/orders[?orderId=]`: who may connect, and the conversation on the socket."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson
from aiohttp import WSMsgType, web

from libs.events.ids import partition_of
from libs.service.health import Health, health_routes
from libs.service.tokens import Claims, InvalidToken
from services.notifier import observe
from services.notifier.hub import Hub
from services.notifier.known import Views
from services.notifier.limits import Close, Limits
from services.notifier.problems import (
    BUSY,
    ORDER_NOT_FOUND,
    TOKEN_INVALID,
    TOO_MANY_CONNECTIONS,
    UNAVAILABLE,
    UPGRADE_REQUIRED,
    problem,
)
from services.notifier.subscriber import Subscriber, text_frame

PATH = "/api/ws/orders"

Verify = Callable[[str], Claims]


class OrdersSocket:
    """The endpoint. `verify` gives a token's claims or raises InvalidToken."""

    def __init__(self, hub: Hub, views: Views, verify: Verify, partitions: int, limits: Limits) -> None:
        self._hub, self._views, self._verify = hub, views, verify
        self._partitions, self._limits = partitions, limits
        self._open = 0
        self._open_of: Counter[str] = Counter()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Upgrade, subscribe, converse. With the token in the header every refusal is a plain HTTP answer."""
        refusal, claims = self._refusal(request), None
        order_id = request.query.get("orderId") or None
        if refusal is None and "Authorization" in request.headers:
            try:
                claims = self._verify(_bearer(request.headers["Authorization"]))
            except InvalidToken as error:
                return problem(request, TOKEN_INVALID, str(error))
            refusal = await self._refusal_of(request, claims.user_id, order_id)
        if refusal is not None:
            return refusal
        self._open += 1
        try:
            return await self._upgrade(request, claims, order_id)
        finally:
            self._open -= 1

    def _refusal(self, request: web.Request) -> web.Response | None:
        if not web.WebSocketResponse().can_prepare(request).ok:
            return problem(request, UPGRADE_REQUIRED, "Connect with a WebSocket client.")
        if not self._hub.open:
            return problem(request, UNAVAILABLE, "The log is not being read; try again.")
        if self._open >= self._limits.sockets_max:
            return problem(request, BUSY, "No more connections here; try again.")
        return None

    async def _refusal_of(self, request: web.Request, user: str, order_id: str | None) -> web.Response | None:
        if self._open_of[user] >= self._limits.sockets_per_user_max:
            return problem(request, TOO_MANY_CONNECTIONS, "Close one first.")
        if order_id is None:
            return None
        try:
            order = await self._views.get(order_id) if is_order_id(order_id, self._partitions) else None
        except Exception as error:
            observe.snapshot_failed(user, repr(error))
            return problem(request, UNAVAILABLE, "Try again.")
        known = order is not None and order.user == user
        return None if known else problem(request, ORDER_NOT_FOUND, "You have no order with this id.")

    async def _upgrade(
        self, request: web.Request, claims: Claims | None, order_id: str | None
    ) -> web.WebSocketResponse:
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
        subscriber = Subscriber("", order_id, ws, request.transport, limits)
        if claims is None:
            claims = await self._first_message(ws)
        if claims is None:
            subscriber.close(Close.UNAUTHORIZED)
        elif self._open_of[claims.user_id] >= limits.sockets_per_user_max:
            subscriber.close(Close.TOO_MANY)
        elif order_id is not None and not is_order_id(order_id, self._partitions):
            subscriber.close(Close.NOT_FOUND)
        else:
            subscriber.user = claims.user_id
            await self._serve(ws, subscriber, claims)
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

    async def _serve(self, ws: web.WebSocketResponse, subscriber: Subscriber, claims: Claims) -> None:
        self._open_of[subscriber.user] += 1
        observe.subscribed(subscriber.user, subscriber.order_id)
        expiry = _at_expiry(subscriber, claims)
        try:
            await self._hub.join_or_close(subscriber)
            # The loop must run even though clients need not say anything: it answers pings and hears the close.
            async for message in ws:
                renewed = self._answer(subscriber, message.data if message.type is WSMsgType.TEXT else b"")
                if renewed:
                    expiry.cancel()
                    expiry = _at_expiry(subscriber, renewed)
        finally:
            expiry.cancel()
            self._hub.leave(subscriber)
            self._open_of[subscriber.user] -= 1
            if not self._open_of[subscriber.user]:
                del self._open_of[subscriber.user]
            observe.left(subscriber.user, subscriber.order_id)

    def _answer(self, subscriber: Subscriber, text: str | bytes) -> Claims | None:
        """Answer one message of the client; gives the claims of a new token."""
        request = _object(text)
        match request.get("op"):
            case "ping":
                subscriber.send(_frame({"type": "pong"}))
            case "auth":
                claims = self._claims(request)
                if claims and claims.user_id == subscriber.user:
                    subscriber.send(_frame({"type": "authenticated", "expiresAt": claims.expires_at.isoformat()}))
                    return claims
                subscriber.close(Close.UNAUTHORIZED)
            case None:
                subscriber.send(_error("bad_message", 'A message is a JSON object with "op".'))
            case _:
                subscriber.send(_error("unknown_op", 'Known are "auth" and "ping".'))
        return None

    def _claims(self, request: Mapping[str, object]) -> Claims | None:
        try:
            return self._verify(str(request.get("token", "")))
        except InvalidToken:
            return None


def make_app(endpoint: OrdersSocket, health: Health) -> web.Application:
    """The notifier's public application."""
    app = web.Application()
    app.add_routes([web.get(PATH, endpoint.handle), *health_routes(health)])
    return app


def is_order_id(text: str, partitions: int) -> bool:
    """Whether this log could have made the id: a lower-case UUID that ends in one of its partitions."""
    shape = len(text) == 36 and all(character in "0123456789abcdef-" for character in text)
    try:
        return shape and partition_of(text) < partitions
    except ValueError:
        return False


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise InvalidToken("The Authorization header must be: Bearer <token>.")
    return token.strip()


def _object(text: str | bytes) -> Mapping[str, object]:
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _at_expiry(subscriber: Subscriber, claims: Claims) -> asyncio.TimerHandle:
    left_s = (claims.expires_at - datetime.now(UTC)).total_seconds()
    return asyncio.get_running_loop().call_later(max(0.0, left_s), subscriber.close, Close.EXPIRED)


def _error(code: str, detail: str) -> bytes:
    return _frame({"type": "error", "code": code, "detail": detail})


def _frame(body: Mapping[str, object]) -> bytes:
    return text_frame(orjson.dumps(body))
