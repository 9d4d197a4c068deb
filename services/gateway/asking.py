"""Who asks, and for which order: what every handler of orders begins with."""

import re
from datetime import UTC, datetime

from aiohttp import web

from libs.events.errors import LogUnavailable
from libs.events.ids import partition_of_user
from libs.events.log import EventLog
from libs.events.order import Order
from libs.orders.presentation import order_body
from libs.service.tokens import issue_token
from services.gateway.answers import answer
from services.gateway.callers import sent_key
from services.gateway.in_time import in_time
from services.gateway.parts import Parts
from services.gateway.placing import Asker
from services.gateway.problems import Problem
from services.gateway.reading import REQUEST_ID
from services.gateway.tracing import traceparent_of

ORDER_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Asking:
    """Checks that come before anything is done."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def reader(self, request: web.Request) -> str:
        """The user who reads."""
        caller = await self._parts.callers.of(request, "orders:read")
        await self._parts.rates.spend(request, "reads", caller.key_id or caller.user)
        return caller.user

    async def writer(self, request: web.Request) -> Asker:
        """Who places or cancels."""
        asker = await self.uncounted_writer(request)
        await self._parts.rates.spend(request, "writes", asker.who)
        return asker

    async def uncounted_writer(self, request: web.Request) -> Asker:
        """Who places or cancels many at once: it is not known yet how many."""
        caller = await self._parts.callers.of(request, "orders:write")
        trace = traceparent_of(request.headers.get("traceparent"))
        return Asker(caller.user, request[REQUEST_ID], trace, caller.key_id or caller.user)

    async def token_for_key(self, request: web.Request) -> str | None:
        """The notifier knows access tokens only: one for whoever comes with an API key, None for the others."""
        if not sent_key(request):
            return None
        caller = await self._parts.callers.of(request, "orders:read")
        lifetime = caller.expires_at - datetime.now(UTC)
        return issue_token(caller.user, self._parts.secret, lifetime=lifetime)

    def log(self) -> EventLog:
        """Raises LogUnavailable while it is not the one this process has checked."""
        if not self._parts.log_open.is_set():
            raise LogUnavailable("the log is not open")
        return self._parts.log

    async def owned(self, order_id: str, user: str) -> Order:
        """The order, if it is `user`'s. One answer for all others: it does not tell what exists."""
        # All orders of a user live in one partition, so most wrong ids need no look-up.
        if ORDER_ID.fullmatch(order_id) and int(order_id[-3:], 16) == partition_of_user(
            user, self._parts.log.partitions
        ):
            order = await in_time(self._parts.views.get(order_id))
            if order and order.user == user:
                return order
        raise Problem("order_not_found", "You have no order with this id.")


def etag(order: Order) -> str:
    """One order at one version never looks different."""
    return f'"{order.id}/{order.version}"'


def named(header: str | None, order: Order, *, weak: bool = False) -> bool:
    """Whether an If-Match or If-None-Match means this order at this version; `weak`: as RFC 9110 compares for reads."""
    tags = [tag.strip() for tag in (header or "").split(",")]
    # Whoever compresses answers on the way marks their tags as weak.
    return "*" in tags or etag(order) in ([tag.removeprefix("W/") for tag in tags] if weak else tags)


def order_answer(order: Order, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """One order as it is now."""
    return answer(order_body(order), status, {"ETag": etag(order)} | (headers or {}))
