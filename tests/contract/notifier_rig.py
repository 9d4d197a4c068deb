"""A notifier in this process over real sockets, for tests, and orders that move."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from libs.events.ids import Position
from libs.events.log import Committed, Entry, EventLog, Only, Snapshot
from libs.events.memory_log import MemoryLog
from libs.events.model import Event
from libs.events.order import Order
from libs.orders.listed import Listed
from libs.orders.views import OrderViews
from libs.service.health import Health, serve
from libs.service.tokens import Claims, InvalidToken
from services.notifier.access import Access, Verify
from services.notifier.app import PATH, make_app
from services.notifier.hub import Hub
from services.notifier.limits import Limits
from services.notifier.tail import Tail
from tests.builders import a_request, then
from tests.contract.http_gateway import NothingProjected
from tests.journeys import JOURNEY
from tests.waiting import eventually

PARTITIONS = 4
SECRET = "a secret of at least thirty-two bytes"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
LIMITS = Limits(read_block_ms=50, close_grace_s=1, heartbeat_s=5)


class InterruptedViews(OrderViews):
    """Runs `between` after the state is read and before it is handed over: where a careless hub loses events."""

    between: Callable[[], Awaitable[None]] | None = None
    before: Callable[[], Awaitable[None]] | None = None

    async def get(self, order_id: str) -> Order | None:
        await self._run("before")
        order = await super().get(order_id)
        await self._run("between")
        return order

    async def listed(self, user: str, before: str | None, limit: int) -> tuple[list[Listed], str | None]:
        await self._run("before")
        return await super().listed(user, before, limit)

    async def whole(self, page: Sequence[Listed]) -> dict[str, Order]:
        orders = await super().whole(page)
        await self._run("between")
        return orders

    async def _run(self, name: str) -> None:
        interruption = getattr(self, name)
        setattr(self, name, None)
        if interruption:
            await interruption()


class HeldBackLog(MemoryLog):
    """A log whose reads can be held back, or fail once."""

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions)
        self.released = asyncio.Event()
        self.released.set()
        self.failure: Exception | None = None

    async def read(
        self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
    ) -> list[Entry]:
        entries = await super().read(after, count, block_ms, only)
        await self.released.wait()
        failure, self.failure = self.failure, None
        if failure:
            raise failure
        return entries


class Tickets:
    """Each is good once; its name is the user's."""

    def __init__(self) -> None:
        self.given: set[str] = set()

    async def take(self, ticket: str) -> Claims | None:
        if ticket not in self.given:
            return None
        self.given.remove(ticket)
        return by_name(ticket)


@dataclass
class Notifier:
    """A notifier under test, in this process, over real sockets."""

    log: EventLog
    views: InterruptedViews
    hub: Hub
    tickets: "Tickets"
    session: ClientSession
    url: str

    def connect(
        self, user: str | None = None, order_id: str | None = None, **asked: str
    ) -> AbstractAsyncContextManager[ClientWebSocketResponse]:
        headers = {"Authorization": f"Bearer {user}"} if user else {}
        asked = {**asked, "orderId": order_id} if order_id else asked
        return self.session.ws_connect(self.url, headers=headers, params=asked)

    async def requested(self, user: str = "alice") -> Snapshot:
        step, now = a_request(PARTITIONS, user)
        assert isinstance(await self.log.commit(step), Committed)
        return now

    async def happens(self, before: Snapshot, *bodies: Event) -> Snapshot:
        """The events, one commit each."""
        for body in bodies:
            step, before = then(before, body)
            assert isinstance(await self.log.commit(step), Committed)
        return before

    async def happens_and_is_told(self, before: Snapshot, *bodies: Event) -> Snapshot:
        """The events; returns when the hub has passed them on, as another socket tells."""
        async with self.connect(before.order.user, before.order.id) as witness:
            await witness.receive_json()
            now = await self.happens(before, *bodies)
            while (await witness.receive_json())["version"] < now.order.version:
                pass
        return now

    async def sign_in(self, ws: ClientWebSocketResponse, user: str) -> None:
        await ws.send_json({"op": "auth", "token": user})


def by_name(token: str) -> Claims:
    """The token is the user's name; 'bad' is nobody's."""
    if token == "bad":
        raise InvalidToken("The token is not valid.")
    return Claims(token, datetime.now(UTC) + timedelta(hours=1))


@asynccontextmanager
async def running(log: EventLog, limits: Limits = LIMITS, verify: Verify = by_name) -> AsyncIterator[Notifier]:
    stop, views, tickets = asyncio.Event(), InterruptedViews(log, NothingProjected()), Tickets()
    hub = Hub(log, views, limits)
    access = Access(hub, views, verify, tickets.take, log.partitions, limits)

    async def nothing_to_reopen() -> None: ...

    tail = asyncio.create_task(Tail(log, hub, limits, name="notifier", reopen=nothing_to_reopen).follow(stop))
    async with serve(make_app(hub, access, Health()), "127.0.0.1", 0) as port, ClientSession() as session:
        await eventually(lambda: hub.open)
        yield Notifier(log, views, hub, tickets, session, f"http://127.0.0.1:{port}{PATH}")
        stop.set()
        await hub.drain()
        await tail


async def until_terminal(ws: ClientWebSocketResponse, order_id: str) -> list[int]:
    """Versions of one order as this socket tells them, the snapshot's first, up to its end."""
    versions: list[int] = []
    async for message in ws:
        body = message.json()
        if body.get("type") == "snapshot":
            versions = [order["version"] for order in body["orders"] if order["orderId"] == order_id] or [0]
        elif body["orderId"] == order_id:
            versions.append(body["version"])
        if versions and versions[-1] == len(JOURNEY) + 1:
            return versions
    raise AssertionError(f"closed with {ws.close_code} after {versions}")


def assert_no_gap_no_repeat(versions: list[int]) -> None:
    assert versions == list(range(versions[0], len(JOURNEY) + 2))


async def closed_with(ws: ClientWebSocketResponse) -> tuple[int | None, str]:
    """Read to the end; gives the close code and the reason."""
    reason = ""
    while (message := await ws.receive()).type not in (WSMsgType.CLOSED, WSMsgType.CLOSING):
        if message.type is WSMsgType.CLOSE:
            reason = message.extra or ""
            break
    return ws.close_code, reason


async def versions_of(ws: ClientWebSocketResponse, order_id: str, last: int) -> list[int]:
    found: list[int] = []
    while not found or found[-1] < last:
        body = await ws.receive_json()
        if body.get("orderId") == order_id:
            found.append(body["version"])
    return found
