"""Events of orders, each once and in order, whatever becomes of the sockets they come through."""

import asyncio
import json
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

import aiohttp

from libs.client.errors import ApiError, Unreachable
from libs.client.transport import Transport, pause, seconds
from libs.client.types import Event, Order

PING_EVERY_S = 10.0  # a socket that does not answer one in time is dead, however open it looks
CLOSED_FOR_GOOD = {4404: (404, "order_not_found"), 4429: (429, "too_many_connections")}
REFUSED_FOR_NOW = {408, 429}
TOKEN_EXPIRED = 4401
VERSIONS_MAX = 10_000  # of orders lately seen: what tells a repeat from news
CLOCKS_APART = timedelta(minutes=1)
PAGE = {"limit": "200"}
NOT_ENDED = {"status": "PENDING,ROUTING,OPEN,BUILDING,SUBMITTED,RETRYING"}

_WAIT_MS = re.compile(r"reconnect in (\d{1,5}) ms")


class Watching:
    """One watch: of one order, from its first event to its last, or of all orders from now on."""

    def __init__(self, transport: Transport, order_id: str | None, ping_every_s: float = PING_EVERY_S) -> None:
        self._transport, self._order_id, self._ping_every_s = transport, order_id, ping_every_s
        self._cursor = ""
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._open: set[str] = set()
        self._began = False
        self._last: datetime | None = None
        self._wait_s = 0.0
        self._failures = 0  # in a row

    async def events(self) -> AsyncIterator[Event]:
        """Until the order has ended; of all orders: for ever.

        Raises:
            ApiError: there is no such order, or no way to be let in again.
        """
        while True:
            token, self._wait_s = self._transport.token, 0.0
            try:
                async with aclosing(self._through_one_socket()) as told:
                    async for event in told:
                        self._failures = 0
                        yield event
                        if self._order_id and event.ended:
                            return
            except aiohttp.WSServerHandshakeError as refused:
                await self._after_refusal(refused, token)
            except (aiohttp.ClientError, TimeoutError, ConnectionError, Unreachable):
                pass  # whatever it was: come back
            except ApiError as refused:
                if not refused.retryable:
                    raise
            self._failures += 1
            await asyncio.sleep(max(self._wait_s, pause(self._failures)))

    async def _through_one_socket(self) -> AsyncGenerator[Event, None]:
        asked = {"orderId": self._order_id} if self._order_id else {}
        if self._cursor:
            asked["cursor"] = self._cursor
        transport, token = self._transport, self._transport.token
        if not self._order_id and not self._began:
            # A snapshot is of few: an order may wait for longer than all that are in it.
            for order in await self._listed({**PAGE, **NOT_ENDED}):
                self._note(order.order_id, order.version, order.updated_at, ended=order.ended)
        socket = transport.session.ws_connect(
            "/api/ws/orders", params=asked, headers=transport.headers, heartbeat=self._ping_every_s
        )
        async with socket as ws:
            # Anything but text: it was closed, or is dead and did not answer a ping.
            while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                for event in await self._told(json.loads(message.data)):
                    yield event
            await self._after_close(ws.close_code, str(message.extra or ""), token)

    async def _told(self, body: dict[str, Any]) -> list[Event]:
        match body["type"]:
            case "snapshot":
                return await self._caught_up(body)
            case "heartbeat":
                self._cursor = body["cursor"]
                self._failures = 0  # a socket that has lasted is none, though nothing happened
            case _ if "version" in body:
                event = Event.of(body)
                self._cursor = event.cursor
                return [event] if self._is_new(event) else []
        return []

    async def _caught_up(self, snapshot: dict[str, Any]) -> list[Event]:
        """What the snapshot stands for, event by event: of one order from its first on, else what was not seen yet."""
        orders = list(map(Order.of, snapshot["orders"]))
        found: list[Event] = []
        if self._order_id or self._began:
            for order in orders if self._order_id else await self._changed():
                if order.version > self._versions.get(order.order_id, 0):
                    history = await self._transport.ask("GET", f"/api/orders/{order.order_id}/events")
                    found += map(Event.of, history["events"])
        else:
            for order in orders:
                self._note(order.order_id, order.version, order.updated_at, ended=order.ended)
        self._began = True
        self._cursor = snapshot["cursor"]
        # Only now, when nothing can fail any more: what was noted is not told again.
        return [event for event in found if self._is_new(event)]

    async def _changed(self) -> list[Order]:
        """Orders that may have gone on unseen: those known to be open, and all that are new. A snapshot is of few."""
        found = [order for order_id in list(self._open) if (order := await self._still_there(order_id))]
        since = {"from": (self._last - CLOCKS_APART).isoformat()} if self._last else {}
        new = await self._listed({**PAGE, **since})
        found += [order for order in new if order.order_id not in self._open]
        return sorted(found, key=lambda order: order.order_id)

    async def _still_there(self, order_id: str) -> Order | None:
        """None: it was lost with the log, or let go of, and there is nothing more to tell of it."""
        try:
            return Order.of(await self._transport.ask("GET", f"/api/orders/{order_id}"))
        except ApiError as refused:
            if refused.code != "order_not_found":
                raise
        self._open.discard(order_id)
        return None

    async def _listed(self, asked: dict[str, str]) -> list[Order]:
        found: list[Order] = []
        while True:
            page = await self._transport.ask("GET", "/api/orders", params=asked)
            found += map(Order.of, page["orders"])
            if page["nextCursor"] is None:
                return found
            asked = {**asked, "cursor": page["nextCursor"]}

    def _is_new(self, event: Event) -> bool:
        if event.version <= self._versions.get(event.order_id, 0):
            return False
        self._note(event.order_id, event.version, event.time, ended=event.ended)
        return True

    def _note(self, order_id: str, version: int, at: datetime, *, ended: bool) -> None:
        self._versions[order_id] = version
        self._versions.move_to_end(order_id)
        (self._open.discard if ended else self._open.add)(order_id)
        if len(self._versions) > VERSIONS_MAX:
            self._open.discard(self._versions.popitem(last=False)[0])
        self._last = max(at, self._last or at)

    async def _after_close(self, code: int | None, reason: str, token: str) -> None:
        if code in CLOSED_FOR_GOOD:
            raise _closed(*CLOSED_FOR_GOOD[code])
        if code == TOKEN_EXPIRED:
            await self._transport.be_let_in_again(token, was_in=True)
        self._wait_s = wait_told(reason)

    async def _after_refusal(self, refused: aiohttp.WSServerHandshakeError, token: str) -> None:
        self._wait_s = seconds(refused.headers.get("Retry-After", "") if refused.headers else "")
        if refused.status == 401:
            await self._transport.be_let_in_again(token)
        elif refused.status < 500 and refused.status not in REFUSED_FOR_NOW:
            codes = {403: "scope_missing", 404: "order_not_found"}
            raise _closed(refused.status, codes.get(refused.status, "refused")) from refused


def wait_told(reason: str) -> float:
    """Seconds until a socket closed with this reason is expected back; each client is told another time."""
    found = _WAIT_MS.search(reason)
    return int(found[1]) / 1000 if found else 0.0


def _closed(status: int, code: str) -> ApiError:
    return ApiError({"status": status, "code": code, "detail": "the watch was closed for good"})
