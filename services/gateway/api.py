"""What happens for each address: read, act, answer."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
from aiohttp import hdrs, web

from libs.events.crash import crossing
from libs.events.errors import LogUnavailable
from libs.events.ids import Cursor, partition_of, partition_of_user
from libs.events.log import EventLog, Snapshot
from libs.events.model import Status
from libs.events.order import Order
from libs.events.reactions import CANCELLABLE
from libs.orders.presentation import event_body, order_body
from libs.orders.views import OrderViews
from libs.service.tokens import InvalidToken, issue_token
from services.gateway import dto, observe
from services.gateway.accounts import Accounts
from services.gateway.auth import Passwords, claims_of
from services.gateway.commands import cancel
from services.gateway.fates import report
from services.gateway.overload import Overload
from services.gateway.placing import Asker, Placed, Placing
from services.gateway.problems import Problem, document
from services.gateway.reading import REQUEST_ID, check_handshake, idempotency_key, page_size, read_body
from services.gateway.tracing import traceparent_of
from services.gateway.tunnel import Tunnels

_JSON = {"Content-Type": "application/json"}
_REPLAYED = {"Idempotent-Replayed": "true"}
_SECRET = {**_JSON, "Cache-Control": "no-store"}
_ORDER_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Parts:
    """What the handlers work with. `log_open`: set while the log is the one this process has checked."""

    log: EventLog
    log_open: asyncio.Event
    overload: Overload
    views: OrderViews
    accounts: Accounts
    passwords: Passwords
    tunnels: Tunnels
    secret: str
    slippage_bps: int
    order_lifetime: timedelta
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


class Api:
    """Every handler; `services.gateway.app` says which address each has."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._placing = Placing(parts.views, parts.slippage_bps, parts.order_lifetime, parts.clock)

    # Accounts

    async def sign_up(self, request: web.Request) -> web.Response:
        """POST /api/auth/signup."""
        signup = dto.read_signup(await read_body(request))
        kept = await self._parts.passwords.hash(signup.password)
        user = await self._parts.accounts.create(signup.email, signup.name, kept)
        observe.signed_up(user, request[REQUEST_ID])
        return self._token(user, 201)

    async def log_in(self, request: web.Request) -> web.Response:
        """POST /api/auth/login."""
        login = dto.read_login(await read_body(request))
        email = dto.normal_email(login.email)
        account = await self._parts.accounts.find(email) if email else None
        same = await self._parts.passwords.check(login.password, account.password_hash if account else None)
        if account is None or not same:
            observe.login_refused(request[REQUEST_ID])
            raise Problem("credentials_invalid", "There is no account with this email and password.")
        observe.logged_in(account.user_id, request[REQUEST_ID])
        return self._token(account.user_id, 200)

    # Orders

    async def place_order(self, request: web.Request) -> web.Response:
        """POST /api/orders: answered once the order is in the log."""
        asker = self._asker(request)
        key = idempotency_key(request)
        asked = dto.read_order(await read_body(request), self._parts.clock())
        placed = await self._placing.one(self._log(), asker, asked, key)
        headers = {"Location": f"/api/orders/{placed.order.id}"}
        return _order(placed.order, 202, headers | _REPLAYED if placed.replayed else headers)

    async def place_orders(self, request: web.Request) -> web.Response:
        """POST /api/orders/batch: each with its own outcome. 202: all are in the log; 207: some are not."""
        asker = self._asker(request)
        key = idempotency_key(request)
        asked = dto.read_orders(await read_body(request), self._parts.clock(), key)
        outcomes = await self._placing.many(self._log(), asker, asked)
        results = [self._result(outcome, request) for outcome in outcomes]
        accepted = sum(isinstance(outcome, Placed) for outcome in outcomes)
        return _json({"accepted": accepted, "results": results}, 202 if accepted == len(outcomes) else 207)

    def _result(self, outcome: Placed | BaseException, request: web.Request) -> dict[str, object]:
        if isinstance(outcome, Placed):
            replayed = {"replayed": True} if outcome.replayed else {}
            return {"status": 202, "order": order_body(outcome.order), **replayed}
        if not isinstance(outcome, Exception):
            raise outcome
        problem = report(outcome, request)
        return {"status": problem.kind.status, "problem": document(problem, request.path, request[REQUEST_ID])}

    async def list_orders(self, request: web.Request) -> web.Response:
        """GET /api/orders?limit=&cursor=."""
        user = self._user(request)
        limit, cursor = page_size(request), request.query.get("cursor")
        if cursor is not None and not _ORDER_ID.fullmatch(cursor):
            raise Problem("invalid_parameter", "cursor is not one this list gave out.")
        with crossing("orders.list"):
            orders, following = await self._parts.views.newest(user, cursor, limit)
        return _json({"orders": [order_body(order) for order in orders], "nextCursor": following})

    async def get_order(self, request: web.Request) -> web.Response:
        """GET /api/orders/{id}."""
        return _order(await self._owned(request, self._user(request)))

    async def get_events(self, request: web.Request) -> web.Response:
        """GET /api/orders/{id}/events."""
        order = await self._owned(request, self._user(request))
        log = self._log()
        history = await self._parts.views.history(order.id)
        partition = partition_of(order.id)
        return _json({"events": [event_body(e, str(Cursor(log.epoch, partition, at)), order) for e, at in history]})

    async def cancel_order(self, request: web.Request) -> web.Response:
        """DELETE /api/orders/{id}: cancels it, unless a signed transaction exists or it has ended."""
        user = self._user(request)
        order = await self._owned(request, user)
        if order.status in CANCELLABLE and (held := await self._held(order.id)):
            before = held.order.version
            order = await cancel(self._log(), held, self._parts.clock)
            if order.status is Status.CANCELLED and order.version > before:
                observe.order_cancelled(order.id, order.version, user, request[REQUEST_ID])
        if order.status is not Status.CANCELLED:
            detail = f"The order is {order.status}; only an order that was not submitted yet can be cancelled."
            raise Problem("order_not_cancellable", detail, currentStatus=order.status.value)
        return _order(order)

    # WebSockets

    async def web_socket(self, request: web.Request) -> web.StreamResponse:
        """GET /api/ws/...: the notifier's, from here on."""
        check_handshake(request)
        request_id = request[REQUEST_ID]
        opened = False

        def on_open() -> None:
            nonlocal opened
            opened = True
            observe.tunnel_opened(request_id)

        try:
            return await self._parts.tunnels.hand_over(request, request_id, on_open)
        finally:
            if opened:
                observe.tunnel_closed(request_id)

    # Parts of the above

    def _user(self, request: web.Request) -> str:
        try:
            claims = claims_of(request.headers.get(hdrs.AUTHORIZATION), self._parts.secret)
        except InvalidToken as error:
            headers = {"WWW-Authenticate": 'Bearer realm="swaplog", error="invalid_token"'}
            raise Problem("token_invalid", str(error), headers=headers) from None
        if claims is None:
            headers = {"WWW-Authenticate": 'Bearer realm="swaplog"'}
            raise Problem("token_missing", "Send the token of a login: Authorization: Bearer <token>.", headers=headers)
        return claims.user_id

    def _asker(self, request: web.Request) -> Asker:
        user = self._user(request)
        self._parts.overload.check()
        return Asker(user, request[REQUEST_ID], traceparent_of(request.headers.get("traceparent")))

    def _token(self, user: str, status: int) -> web.Response:
        return _json({"userId": user, "token": issue_token(user, self._parts.secret)}, status, _SECRET)

    def _log(self) -> EventLog:
        if not self._parts.log_open.is_set():
            raise LogUnavailable("the log is not open")
        return self._parts.log

    async def _held(self, order_id: str) -> Snapshot | None:
        return await self._log().find(order_id)

    async def _owned(self, request: web.Request, user: str) -> Order:
        """The order the address names, if it is `user`'s. One answer for all others: it does not tell what exists."""
        order_id = request.match_info["order_id"]
        # All orders of a user live in one partition, so most wrong ids need no look-up.
        if _ORDER_ID.fullmatch(order_id) and int(order_id[-3:], 16) == partition_of_user(
            user, self._parts.log.partitions
        ):
            order = await self._parts.views.get(order_id)
            if order and order.user == user:
                return order
        raise Problem("order_not_found", "You have no order with this id.")


def _order(order: Order, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return _json(order_body(order), status, {**_JSON, **headers} if headers else _JSON)


def _json(value: object, status: int = 200, headers: Mapping[str, str] = _JSON) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, headers=headers)
