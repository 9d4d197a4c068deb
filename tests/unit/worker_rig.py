"""A worker at work on a log in memory, and handlers that take an order all its way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from libs.events.alone import Handle
from libs.events.envelope import Envelope
from libs.events.log import Committed, Snapshot
from libs.events.memory_log import MemoryLog
from libs.events.model import Event, OrderRequested, RouteSelected, RoutingStarted, TxSubmitted
from libs.events.order import Order
from libs.events.together import HandleMany
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health
from tests.builders import a_request, route_selected, routing_started, tx_confirmed, tx_submitted

LIMITS = WorkerLimits(
    block_ms=20, retry_base_s=0.001, retry_cap_s=0.002, timers_every_s=0.01, claim_every_s=0.01, claim_idle_ms=10**6
)


async def route(_order: Order, event: Envelope) -> Sequence[Event]:
    match event.data:
        case OrderRequested():
            return [routing_started()]
        case RoutingStarted():
            return [route_selected()]
        case _:
            return [routing_started(2)]


async def execute(_order: Order, event: Envelope) -> Sequence[Event]:
    match event.data:
        case RouteSelected():
            return [tx_submitted()]
        case TxSubmitted():
            return [tx_confirmed()]
        case _:
            raise AssertionError(event.type)


@asynccontextmanager
async def working(
    log: MemoryLog,
    service: str,
    handle: Handle,
    consumer: str = "a",
    limits: WorkerLimits = LIMITS,
    handle_many: HandleMany | None = None,
) -> AsyncIterator[Health]:
    stop, health = asyncio.Event(), Health("log")
    worker = Worker(
        log, service, handle, consumer=consumer, health=health, limits=limits, drain_s=1, handle_many=handle_many
    )
    running = asyncio.create_task(worker.run(stop))
    try:
        yield health
    finally:
        stop.set()
        await running


async def requested(log: MemoryLog) -> Snapshot:
    step, made = a_request(log.partitions)
    assert isinstance(await log.commit(step), Committed)
    return made


async def types(log: MemoryLog, order_id: str) -> list[str]:
    return [entry.fields["type"] for entry in await log.history(order_id)]


def status(log: MemoryLog, order_id: str, wanted: str) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        held = await log.find(order_id)
        assert held is not None
        assert held.order.status == wanted
        return True

    return is_so


async def no_backlog(log: MemoryLog, service: str) -> bool:
    return await log.backlog(service) == 0
