"""A worker that is told to stop takes no more, and has the drain window for what is in hand: no less, and no more."""

import asyncio
from collections.abc import Sequence

from libs.events.envelope import Envelope
from libs.events.log import Committed
from libs.events.memory_log import MemoryLog
from libs.events.model import Event
from libs.events.order import Order
from libs.events.reactions import ROUTER
from libs.events.together import Pair
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health
from tests.builders import a_request, route_selected, routing_started
from tests.waiting import eventually


async def requested(log: MemoryLog) -> str:
    step, made = a_request(log.partitions)
    assert isinstance(await log.commit(step), Committed)
    return made.order.id


async def test_a_worker_whose_hands_are_full_stops_all_the_same() -> None:
    log = MemoryLog(1)
    for _ in range(4):
        await requested(log)
    begun: set[str] = set()

    async def undecided(order: Order, _event: Envelope) -> Sequence[Event]:
        begun.add(order.id)
        return []

    stop, limits = asyncio.Event(), WorkerLimits(block_ms=10, in_flight_max=2)
    worker = Worker(log, ROUTER, undecided, consumer="a", health=Health("log"), limits=limits, drain_s=0.05)
    running = asyncio.create_task(worker.run(stop))
    await eventually(lambda: len(begun) == 2)
    await asyncio.sleep(0.05)  # the reader waits for room by now
    assert not running.done()
    stop.set()
    ended, _ = await asyncio.wait([running], timeout=10)
    running.cancel()
    assert ended
    assert len(begun) == 2


async def test_what_is_left_of_a_group_is_finished_in_the_drain_window() -> None:
    log = MemoryLog(1)
    order_id = await requested(log)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def not_together(pairs: Sequence[Pair]) -> Sequence[Sequence[Event]]:
        begun.set()
        await may_end.wait()
        return [[] for _ in pairs]

    async def alone(_order: Order, _event: Envelope) -> Sequence[Event]:
        await asyncio.sleep(0.01)
        return [routing_started(), route_selected()]

    stop = asyncio.Event()
    worker = Worker(
        log,
        ROUTER,
        alone,
        consumer="a",
        health=Health("log"),
        limits=WorkerLimits(block_ms=10),
        drain_s=10,
        handle_many=not_together,
    )
    running = asyncio.create_task(worker.run(stop))
    await begun.wait()
    stop.set()
    asyncio.get_running_loop().call_later(0.05, may_end.set)
    await running
    held = await log.find(order_id)
    assert held
    assert held.order.status == "BUILDING"


async def test_an_order_is_not_set_aside_for_how_often_its_workers_were_told_to_stop() -> None:
    log = MemoryLog(1)
    order_id = await requested(log)
    limits = WorkerLimits(block_ms=10)
    begun = asyncio.Event()

    async def undecided(_order: Order, _event: Envelope) -> Sequence[Event]:
        begun.set()
        return []

    for _ in range(limits.deliveries_max + 2):
        stop = asyncio.Event()
        worker = Worker(log, ROUTER, undecided, consumer="a", health=Health("log"), limits=limits, drain_s=0.01)
        running = asyncio.create_task(worker.run(stop))
        async with asyncio.timeout(10):
            await begun.wait()
        stop.set()
        await running
        begun.clear()

    assert await log.parked() == []
    assert [item.order_id for item in await log.take_pending(ROUTER, "a")] == [order_id]
