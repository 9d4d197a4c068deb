"""What happens for each address: read, act, answer."""

import re
from collections.abc import Mapping

from aiohttp import web

from libs.events.crash import crossing
from libs.events.errors import LogUnavailable
from libs.events.ids import Cursor, partition_of, partition_of_user
from libs.events.log import Entry, EventLog, Snapshot
from libs.events.model import Status
from libs.events.order import Order
from libs.events.reactions import CANCELLABLE
from libs.orders.presentation import event_body, order_body
from libs.orders.resume import pages_after, position_of
from services.gateway import dto, limits, observe
from services.gateway.answers import answer
from services.gateway.commands import cancel
from services.gateway.fates import report
from services.gateway.parts import Parts
from services.gateway.placing import Asker, Placed, Placing
from services.gateway.problems import Problem, document
from services.gateway.reading import REQUEST_ID, check_handshake, idempotency_key, page_size, read_body
from services.gateway.tracing import traceparent_of

_REPLAYED = {"Idempotent-Replayed": "true"}
_ORDER_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Api:
    """Every handler; `services.gateway.app` says which address each has."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._placing = Placing(parts.views, parts.slippage_bps, parts.order_lifetime, parts.clock)

    # Orders

    async def place_order(self, request: web.Request) -> web.Response:
        """POST /api/orders: answered once the order is in the log."""
        asker = await self._asker(request)
        self._parts.overload.check()
        key = idempotency_key(request)
        asked = dto.read_order(await read_body(request), self._parts.clock())
        placed = await self._placing.one(self._log(), asker, asked, key)
        headers = {"Location": f"/api/orders/{placed.order.id}"}
        return _order(placed.order, 202, headers | _REPLAYED if placed.replayed else headers)

    async def place_orders(self, request: web.Request) -> web.Response:
        """POST /api/orders/batch: each with its own outcome. 202: all are in the log; 207: some are not."""
        asker = await self._asker(request)
        self._parts.overload.check()
        key = idempotency_key(request)
        asked = dto.read_orders(await read_body(request), self._parts.clock(), key)
        outcomes = await self._placing.many(self._log(), asker, asked)
        results = [self._result(outcome, request) for outcome in outcomes]
        accepted = sum(isinstance(outcome, Placed) for outcome in outcomes)
        return answer({"accepted": accepted, "results": results}, 202 if accepted == len(outcomes) else 207)

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
        user = await self._user(request)
        limit, cursor = page_size(request), request.query.get("cursor")
        if cursor is not None and not _ORDER_ID.fullmatch(cursor):
            raise Problem("invalid_parameter", "cursor is not one this list gave out.")
        with crossing("orders.list"):
            orders, following = await self._parts.views.newest(user, cursor, limit)
        return answer({"orders": [order_body(order) for order in orders], "nextCursor": following})

    async def get_order(self, request: web.Request) -> web.Response:
        """GET /api/orders/{id}."""
        return _order(await self._owned(request, await self._user(request)))

    async def get_events(self, request: web.Request) -> web.Response:
        """GET /api/orders/{id}/events."""
        order = await self._owned(request, await self._user(request))
        log = self._log()
        history = await self._parts.views.history(order.id)
        partition = partition_of(order.id)
        return answer({"events": [event_body(e, str(Cursor(log.epoch, partition, at)), order) for e, at in history]})

    async def events_after(self, request: web.Request) -> web.Response:
        """GET /api/events?cursor=&limit=: what the WebSocket would have told since, as one page of JSON."""
        user = await self._user(request)
        limit, log = page_size(request), self._log()
        partition = partition_of_user(user, log.partitions)
        cursor = request.query.get("cursor")
        if cursor is None:
            return answer({"events": [], "cursor": str(Cursor(log.epoch, partition, await log.tip(partition)))})
        after, found = position_of(cursor, self._parts.reads, user), list[Entry]()
        async for entries, at in pages_after(self._parts.reads, user, after, limits.RESUME_ENTRIES_MAX):
            found += entries
            after = found[limit - 1].at if len(found) >= limit else at
            if len(found) >= limit:
                break
        orders = await self._parts.views.many({entry.fields["subject"] for entry in found[:limit]})
        events = [
            event_body(entry.decode(), str(Cursor(log.epoch, partition, entry.at)), orders[entry.fields["subject"]])
            for entry in found[:limit]
        ]
        return answer({"events": events, "cursor": str(Cursor(log.epoch, partition, after))})

    async def cancel_order(self, request: web.Request) -> web.Response:
        """DELETE /api/orders/{id}: cancels it, unless a signed transaction exists or it has ended."""
        user = (await self._asker(request)).user
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

    # WebSockets and event streams

    async def web_socket(self, request: web.Request) -> web.StreamResponse:
        """GET /api/ws/...: the notifier's, from here on."""
        check_handshake(request)
        return await self.event_stream(request)

    async def event_stream(self, request: web.Request) -> web.StreamResponse:
        """GET /api/stream/...: the notifier's, from here on."""
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

    async def _user(self, request: web.Request) -> str:
        """Who reads."""
        caller = await self._parts.callers.of(request, "orders:read")
        await self._parts.rates.spend(request, "reads", caller.key_id or caller.user)
        return caller.user

    async def _asker(self, request: web.Request) -> Asker:
        """Who writes."""
        caller = await self._parts.callers.of(request, "orders:write")
        await self._parts.rates.spend(request, "writes", caller.key_id or caller.user)
        return Asker(caller.user, request[REQUEST_ID], traceparent_of(request.headers.get("traceparent")))

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
    return answer(order_body(order), status, headers)
