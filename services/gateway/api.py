"""What happens for each address that changes orders, and for those handed over to the notifier."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from aiohttp import hdrs, web

from libs.events.model import Status
from libs.events.order import Order
from libs.events.reactions import CANCELLABLE
from libs.orders.presentation import order_body
from services.gateway import dto, observe
from services.gateway.answers import answer
from services.gateway.asking import Asking, named, order_answer
from services.gateway.bodies import Invalid, quoted
from services.gateway.commands import cancel
from services.gateway.cors import cors_headers
from services.gateway.fates import report
from services.gateway.parts import Parts
from services.gateway.placing import Asker, Placed, Placing
from services.gateway.problems import Problem, document
from services.gateway.reading import BODY, REQUEST_ID, check_handshake, idempotency_key, read_body, weight_of

Entry = TypeVar("Entry")
Item = tuple[dto.OrderRequest, str | None]

_REPLAYED = {"Idempotent-Replayed": "true"}


class Api:
    """Every handler; `services.gateway.app` says which address each has."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._asking = parts, Asking(parts)
        self._placing = Placing(
            parts.views,
            parts.quotes,
            parts.overload.check_waiting,
            parts.slippage_bps,
            parts.order_lifetime,
            parts.open_orders_max,
            parts.clock,
        )

    async def place_order(self, request: web.Request) -> web.Response:
        """POST /api/orders: answered once the order is in the log."""
        asker = await self._asking.uncounted_writer(request)
        [(asked, key)] = await self._counted(self._order_of(request), "#", request, asker)
        placed = await self.place_for(asker, asked, key)
        headers = {"Location": f"/api/orders/{placed.order.id}"}
        return order_answer(placed.order, 202, headers | _REPLAYED if placed.replayed else headers)

    async def place_for(self, asker: Asker, asked: dto.OrderRequest, key: str | None) -> Placed:
        """One order, by whatever way it came."""
        return await self._placing.one(self._asking.log(), asker, asked, key)

    async def cancel_for(self, asker: Asker, order_id: str) -> Order:
        """Cancel one order, by whatever way that was asked."""
        return await self._cancelled(await self._asking.owned(order_id, asker.user), asker)

    async def place_orders(self, request: web.Request) -> web.Response:
        """POST /api/orders/batch: each with its own outcome. 202: all are in the log; 207: some are not."""
        asker = await self._asking.uncounted_writer(request)
        asked = await self._counted(self._orders_of(request), "#/orders", request, asker)
        outcomes = await self._placing.many(self._asking.log(), asker, asked)
        results = [self.result(outcome, request) for outcome in outcomes]
        accepted = sum(isinstance(outcome, Placed) for outcome in outcomes)
        return answer({"accepted": accepted, "results": results}, 202 if accepted == len(outcomes) else 207)

    async def cancel_order(self, request: web.Request) -> web.Response:
        """DELETE /api/orders/{id}: cancels it, unless a signed transaction exists or it has ended."""
        asker = await self._asking.writer(request)
        order = await self._asking.owned(request.match_info["order_id"], asker.user)
        wanted = request.headers.get(hdrs.IF_MATCH)
        if wanted is not None and not named(wanted, order):
            raise _changed(order)
        only = None if wanted is None or wanted.strip() == "*" else order.version
        return order_answer(await self._cancelled(order, asker, only))

    async def cancel_orders(self, request: web.Request) -> web.Response:
        """POST /api/orders/cancel: each with its own outcome. 200: all are cancelled; 207: some are not."""
        asker = await self._asking.uncounted_writer(request)
        order_ids = await self._counted(self._order_ids_of(request), "#/orderIds", request, asker)
        outcomes = await self._cancel_each(order_ids, asker)
        results = [self.result(outcome, request, order_id) for order_id, outcome in outcomes]
        cancelled = sum(isinstance(outcome, Order) for _, outcome in outcomes)
        return answer({"cancelled": cancelled, "results": results}, 200 if cancelled == len(outcomes) else 207)

    async def _order_of(self, request: web.Request) -> list[Item]:
        self._parts.overload.check()
        key = idempotency_key(request)
        return [(dto.read_order(await read_body(request), self._parts.clock()), key)]

    async def _orders_of(self, request: web.Request) -> list[Item | Invalid]:
        self._parts.overload.check()
        key = idempotency_key(request)
        return dto.read_orders(await read_body(request), self._parts.clock(), key)

    async def _order_ids_of(self, request: web.Request) -> list[str]:
        return dto.read_order_ids(await read_body(request))

    async def _counted(
        self, reading: Awaitable[list[Entry]], pointer: str, request: web.Request, asker: Asker
    ) -> list[Entry]:
        """What a body holds, each entry counted as a request is, a large body as more; what cannot be read as one."""
        try:
            entries = await reading
            self._parts.rates.check_size("writes", len(entries), pointer)
        except Exception:
            await self._parts.rates.spend(request, "writes", asker.who)
            raise
        # All at once: one counted before the others would be lost with each refusal of these, and so they might never
        # be permitted.
        cost = max(len(entries), weight_of(len(request[BODY])))
        await self._parts.rates.spend(request, "writes", asker.who, cost=cost)
        return entries

    async def _cancel_each(self, order_ids: Sequence[str], asker: Asker) -> list[tuple[str, Order | BaseException]]:
        async def one(order_id: str) -> Order:
            return await self.cancel_for(asker, order_id)

        outcomes = await asyncio.gather(*map(one, order_ids), return_exceptions=True)
        return list(zip(order_ids, outcomes, strict=True))

    async def _cancelled(self, order: Order, asker: Asker, only: int | None = None) -> Order:
        """`only`: the one version that may be cancelled."""
        log = self._asking.log()
        if order.status in CANCELLABLE and (held := await log.find(order.id)):
            before = held.order.version
            if only not in {None, before}:
                raise _changed(held.order)
            order = await cancel(log, held, self._parts.clock, only_once=only is not None)
            if only is not None and order.version > only and order.status is not Status.CANCELLED:
                raise _changed(order)
            if order.status is Status.CANCELLED and order.version > before:
                observe.order_cancelled(order.id, order.version, asker.user, asker.request_id)
        if order.status is not Status.CANCELLED:
            detail = f"The order is {order.status}; only an order that was not submitted yet can be cancelled."
            raise Problem("order_not_cancellable", detail, currentStatus=order.status.value)
        return order

    def result(
        self, outcome: Placed | Order | BaseException, request: web.Request, order_id: str | None = None
    ) -> dict[str, object]:
        named = {} if order_id is None else {"orderId": quoted(order_id)}
        if isinstance(outcome, Placed):
            replayed = {"replayed": True} if outcome.replayed else {}
            return {"status": 202, "order": order_body(outcome.order), **replayed}
        if isinstance(outcome, Order):
            return {**named, "status": 200, "order": order_body(outcome)}
        if not isinstance(outcome, Exception):
            raise outcome
        problem = report(outcome, request)
        whole = document(problem, request.path, request[REQUEST_ID])
        return {**named, "status": problem.kind.status, "problem": whole}

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

        token = await self._asking.token_for_key(request)
        # The notifier's answer does not come by the middleware that gives all others these.
        headers = {"X-Request-Id": request_id, **cors_headers(request, self._parts.cors_origins)}
        try:
            return await self._parts.tunnels.hand_over(request, request_id, on_open, token, headers)
        finally:
            if opened:
                observe.tunnel_closed(request_id)


def _changed(order: Order) -> Problem:
    detail = f"The order is at version {order.version} now, and {order.status}."
    return Problem("precondition_failed", detail, currentStatus=order.status.value, currentVersion=order.version)
