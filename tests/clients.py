"""An API client for tests: what a user would write, and nothing the API does not offer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import aiohttp

TERMINAL = {"CONFIRMED", "FAILED", "CANCELLED", "EXPIRED"}


class Client:
    """One signed-up user."""

    def __init__(self, session: aiohttp.ClientSession, user_id: str, token: str) -> None:
        self.session, self.user_id, self.token = session, user_id, token

    async def order(self, *, key: str | None = None, **changes: Any) -> dict[str, Any]:
        """Post an order that must be accepted; gives the 202's body."""
        body = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": 10, **changes}
        headers = {"Idempotency-Key": key} if key else {}
        async with self.session.post("/api/orders", json=body, headers=headers) as answer:
            text = await answer.text()
            assert answer.status == 202, text
            accepted = json.loads(text)
            assert answer.headers["Location"] == f"/api/orders/{accepted['orderId']}"
            return dict(accepted)

    async def get(self, path: str) -> dict[str, Any]:
        async with self.session.get(path) as answer:
            assert answer.status == 200, await answer.text()
            return dict(await answer.json())

    async def all_orders(self) -> list[dict[str, Any]]:
        orders: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await self.get("/api/orders?limit=100" + (f"&cursor={cursor}" if cursor else ""))
            orders += page["orders"]
            cursor = page["nextCursor"]
        return orders

    @asynccontextmanager
    async def watch(self, order_id: str | None = None) -> AsyncIterator["Watch"]:
        """A socket and everything it says."""
        query = f"?orderId={order_id}" if order_id else ""
        async with self.session.ws_connect(f"/api/ws/orders{query}", heartbeat=20) as socket:
            watch = Watch(socket)
            await watch.snapshot_arrived.wait()
            try:
                yield watch
            finally:
                watch.end()


class Watch:
    """Collects the messages of one socket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.snapshot: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.other: list[dict[str, Any]] = []
        self.snapshot_arrived = asyncio.Event()
        self.closed_with: int | None = None
        self._task = asyncio.create_task(self._collect(socket))

    def end(self) -> None:
        self._task.cancel()

    async def _collect(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        with suppress(asyncio.CancelledError):
            async for message in socket:
                said = json.loads(message.data)
                if said["type"] == "snapshot":
                    self.snapshot = said
                    self.snapshot_arrived.set()
                elif "orderId" in said:
                    self.events.append(said)
                else:
                    self.other.append(said)
            self.closed_with = socket.close_code
            self.snapshot_arrived.set()

    def of(self, order_id: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["orderId"] == order_id]

    def ended(self, order_id: str) -> bool:
        return any(event["status"] in TERMINAL for event in self.of(order_id))


@asynccontextmanager
async def signed_up(base_url: str, email: str = "") -> AsyncIterator[Client]:
    """A new user with a session of his own."""
    async with aiohttp.ClientSession(base_url) as anonymous:
        credentials = {"email": email or f"{uuid4().hex}@example.org", "password": "correct horse battery"}
        async with anonymous.post("/api/auth/signup", json=credentials) as answer:
            assert answer.status == 201, await answer.text()
            given = await answer.json()
    headers = {"Authorization": f"Bearer {given['token']}"}
    async with aiohttp.ClientSession(base_url, headers=headers) as session:
        yield Client(session, given["userId"], given["token"])
