"""Two releases on one log, as during every rolling upgrade: orders pass through both, and nobody waits for anybody."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from libs.events import model, upcast as upcasting
from libs.events.envelope import Envelope
from libs.events.ids import START
from libs.events.log import Committed
from libs.events.model import AttemptFailed, Event, OrderRequested, RouteSelected, RoutingStarted, Status, TxSubmitted
from libs.events.order import Order, evolve
from libs.events.reactions import EXECUTOR, NEXT_ACTOR, ROUTER, STATUS_AFTER
from libs.events.redis_log import RedisLog, open_redis_log
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health
from tests.builders import a_request, attempt_failed, route_selected, routing_started, tx_confirmed, tx_submitted
from tests.servers import flush_redis
from tests.waiting import eventually

PARTITIONS = 2
ORDERS = 40
LIMITS = WorkerLimits(block_ms=50, in_flight_max=4)


def newer(kind: type[Event], schema_version: int = 1, **fields: type) -> type[Event]:
    """The event as a later release has it: with more fields, perhaps another version of the schema."""
    body: dict[str, Any] = {"__annotations__": fields, "SCHEMA_VERSION": schema_version}
    return type(kind.__name__, (kind,), body)


async def act(order: Order, event: Envelope) -> Sequence[Event]:
    """A router and an executor, as simple as they can be."""
    match event.data:
        case OrderRequested():
            return [routing_started()]
        case RoutingStarted(attempt=1):
            return [attempt_failed()]
        case AttemptFailed():
            return [routing_started(2)]
        case RoutingStarted():
            return [route_selected(2)]
        case RouteSelected():
            return [tx_submitted(2, signature=f"sig-{order.id}")]
        case TxSubmitted(signature=signature):
            return [tx_confirmed(2, signature)]
    raise AssertionError(event.type)


class Release:
    """The workers of one release; `writes` are its own forms of events."""

    def __init__(self, name: str, writes: dict[str, type[Event]], **more: object) -> None:
        self.name, self.writes, self.more = name, writes, more
        self.wrote = 0

    async def handle(self, order: Order, event: Envelope) -> Sequence[Event]:
        self.wrote += 1
        return [self._own(body) for body in await act(order, event)]

    def _own(self, body: Event) -> Event:
        kind = self.writes.get(type(body).__name__)
        return kind.model_validate({**body.model_dump(), **self.more}) if kind else body

    @asynccontextmanager
    async def working(self, log: RedisLog) -> AsyncIterator[None]:
        workers = [
            Worker(log, service, self.handle, consumer=self.name, health=Health("log"), limits=LIMITS)
            for service in (ROUTER, EXECUTOR)
        ]
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.run(stop))
            yield
            stop.set()


@pytest.fixture
async def log(redis_url: str) -> AsyncIterator[RedisLog]:
    await asyncio.to_thread(flush_redis, redis_url)
    async with open_redis_log(redis_url, PARTITIONS) as opened:
        await opened.start(create=True)
        yield opened


async def all_pass(log: RedisLog, *releases: Release) -> list[dict[str, str]]:
    ids = []
    for number in range(ORDERS):
        step, made = a_request(PARTITIONS, f"user-{number}")
        assert isinstance(await log.commit(step), Committed)
        ids.append(made.order.id)

    async def confirmed() -> bool:
        held = await log.find_many(ids)
        return all(now.order.status is Status.CONFIRMED for now in held.values()) and len(held) == ORDERS

    async with releases[0].working(log), releases[1].working(log):
        await eventually(confirmed, what="every order passes")
    assert await log.parked() == []
    assert all(release.wrote for release in releases), "both had work"
    entries = await log.read(dict.fromkeys(range(PARTITIONS), START), 10_000, 0)
    orders: dict[str, Order] = {}
    for entry in entries:
        event = entry.decode()
        orders[event.subject] = evolve(orders.get(event.subject), event)
    assert {order.status for order in orders.values()} == {Status.CONFIRMED}
    return [dict(entry.fields) for entry in entries]


def register(patch: pytest.MonkeyPatch, kind: type[Event], base: type[Event]) -> None:
    patch.setitem(NEXT_ACTOR, kind, NEXT_ACTOR[base])
    patch.setitem(STATUS_AFTER, kind, STATUS_AFTER[base])


async def test_a_newer_release_that_writes_more_fields(log: RedisLog, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = newer(RouteSelected, hops=int)
    register(monkeypatch, kind, RouteSelected)
    old, new = Release("old", {}), Release("new", {"RouteSelected": kind}, hops=3)
    fields = await all_pass(log, old, new)
    written = {'"hops"' in entry["data"] for entry in fields if entry["type"] == "RouteSelected"}
    assert written == {True, False}, "both wrote routes"


async def test_a_newer_release_that_reads_two_versions_and_one_that_writes_the_older(
    log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two steps to a new version: everybody must read it before anybody writes it."""
    kind = newer(TxSubmitted, 2, sent_by=str)
    register(monkeypatch, kind, TxSubmitted)
    monkeypatch.setitem(model.EVENT_TYPES, "TxSubmitted", kind)
    monkeypatch.setitem(upcasting.UPCASTS, ("TxSubmitted", 1), lambda body: {**body, "sent_by": "somebody"})
    old, new = Release("old", {}), Release("new", {"TxSubmitted": kind}, sent_by="me")
    fields = await all_pass(log, old, new)
    versions = {entry["v"] for entry in fields if entry["type"] == "TxSubmitted"}
    assert versions == {"1", "2"}
