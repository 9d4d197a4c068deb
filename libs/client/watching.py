"""Events of orders, each once and in order, whatever becomes of the sockets they come through."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from libs.client.errors import ApiError
from libs.client.transport import Transport, pause
from libs.client.types import Event

PING_EVERY_S = 10.0  # a socket that does not answer one in time is dead, however open it looks
CLOSED_FOR_GOOD = {4404: "order_not_found", 4429: "too_many_connections"}
TOKEN_EXPIRED = 4401


class Watching:
    """One watch: of one order, from its first event to its last, or of all orders from now on."""

    def __init__(self, transport: Transport, order_id: str | None, ping_every_s: float = PING_EVERY_S) -> None:
        self._transport, self._order_id, self._ping_every_s = transport, order_id, ping_every_s
        self._cursor = ""
        self._versions: dict[str, int] = {}
        self._began = False

    async def events(self) -> AsyncIterator[Event]:
        """Until the order has ended; of all orders: for ever.

        Raises:
            ApiError: there is no such order, or no way to be let in again.
        """
        failures = 0
        while True:
            token = self._transport.token
            try:
                async for event in self._through_one_socket():
                    failures = 0
                    yield event
                    if self._order_id and event.ended:
                        return
            except aiohttp.WSServerHandshakeError as refused:
                if refused.status == 401 and not await self._transport.renew(token):
                    raise _closed("token_invalid", 401) from refused
                if refused.status == 404:
                    raise _closed("order_not_found", 404) from refused
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                pass  # whatever it was: come back
            failures += 1
            await asyncio.sleep(pause(failures))

    async def _through_one_socket(self) -> AsyncIterator[Event]:
        asked = {"orderId": self._order_id} if self._order_id else {}
        if self._cursor:
            asked["cursor"] = self._cursor
        transport = self._transport
        socket = transport.session.ws_connect(
            "/api/ws/orders", params=asked, headers=transport.headers, heartbeat=self._ping_every_s
        )
        async with socket as ws:
            async for message in ws:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break  # the socket is dead: it did not answer a ping
                for event in await self._told(json.loads(message.data)):
                    yield event
            await self._after_close(ws.close_code)

    async def _told(self, body: dict[str, Any]) -> list[Event]:
        match body["type"]:
            case "snapshot":
                return await self._caught_up(body)
            case "heartbeat":
                self._cursor = body["cursor"]
            case "reset" | "pong" | "error" | "authenticated" | "subscribed" | "unsubscribed":
                pass
            case _:
                event = Event.of(body)
                self._cursor = event.cursor
                return [event] if self._is_new(event) else []
        return []

    async def _caught_up(self, snapshot: dict[str, Any]) -> list[Event]:
        """What the snapshot stands for, event by event: of one order from its first on, else what was not seen yet."""
        found: list[Event] = []
        for order in snapshot["orders"]:
            seen = self._versions.get(order["orderId"], 0)
            if not self._order_id and not self._began:
                self._versions[order["orderId"]] = order["version"]
            elif order["version"] > seen:
                history = await self._transport.ask("GET", f"/api/orders/{order['orderId']}/events")
                found += [event for event in map(Event.of, history["events"]) if self._is_new(event)]
        self._began = True
        self._cursor = snapshot["cursor"]
        return found

    def _is_new(self, event: Event) -> bool:
        new = event.version > self._versions.get(event.order_id, 0)
        if new:
            self._versions[event.order_id] = event.version
            if event.ended and not self._order_id:
                del self._versions[event.order_id]
        return new

    async def _after_close(self, code: int | None) -> None:
        if code in CLOSED_FOR_GOOD:
            raise _closed(CLOSED_FOR_GOOD[code], code)
        if code == TOKEN_EXPIRED and not await self._transport.renew(self._transport.token):
            raise _closed("token_invalid", 401)


def _closed(code: str, status: int) -> ApiError:
    return ApiError({"status": status, "code": code, "detail": "the watch was closed for good"})
