"""The runtime on a memory log: who acts, what is retried, what is parked, what is left for the next start."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from libs.events.envelope import Envelope
from libs.events.errors import LogUnavailable, OutcomeUnknown
from libs.events.ids import partition_of
from libs.events.log import Committed, Outcome, Snapshot, Step
from libs.events.memory_log import MemoryLog
from libs.events.model import Event, OrderCancelled, OrderRequested, RouteSelected, RoutingStarted, TxSubmitted
from libs.events.order import Order
from libs.events.worker import Handle, Worker
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health
from tests.builders import a_request, attempt_failed, route_selected, routing_started, then, tx_confirmed, tx_submitted
from tests.waiting import eventually

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
    log: MemoryLog, service: str, handle: Handle, consumer: str = "a", limits: WorkerLimits = LIMITS
) -> AsyncIterator[Health]:
    stop, health = asyncio.Event(), Health("log")
    worker = Worker(log, service, handle, consumer=consumer, health=health, limits=limits, drain_s=1)
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


async def test_an_order_runs_through_both_services() -> None:
    log = MemoryLog(4)
    made = await requested(log)
    async with working(log, "router", route), working(log, "executor", execute):
        await eventually(status(log, made.order.id, "CONFIRMED"))

    assert await types(log, made.order.id) == [
        "OrderRequested",
        "RoutingStarted",
        "RouteSelected",
        "TxSubmitted",
        "TxConfirmed",
    ]
    assert await log.backlog("router") == await log.backlog("executor") == 0


async def test_every_event_names_its_cause() -> None:
    log = MemoryLog(4)
    made = await requested(log)
    async with working(log, "router", route):
        await eventually(status(log, made.order.id, "BUILDING"))
    history = [entry.decode() for entry in await log.history(made.order.id)]

    assert [event.cause for event in history] == ["", f"{made.order.id}/1", f"{made.order.id}/2"]
    assert [event.source for event in history] == ["gateway", "router", "router"]


async def test_a_failed_attempt_comes_back_after_its_delay() -> None:
    log = MemoryLog(4)
    made = await requested(log)
    attempts: list[int] = []

    async def second_time_lucky(order: Order, event: Envelope) -> Sequence[Event]:
        if isinstance(event.data, RoutingStarted) and order.attempt == 1:
            attempts.append(order.attempt)
            return [attempt_failed(delay_ms=20)]
        return await route(order, event)

    async with working(log, "router", second_time_lucky):
        await eventually(status(log, made.order.id, "BUILDING"))
    assert attempts == [1]
    assert (await types(log, made.order.id))[-3:] == ["AttemptFailed", "RoutingStarted", "RouteSelected"]


async def test_a_handler_that_raises_is_tried_again_then_parked_and_others_go_on() -> None:
    log = MemoryLog(4)
    poison, healthy = await requested(log), await requested(log)
    tries: list[str] = []

    async def sometimes(order: Order, event: Envelope) -> Sequence[Event]:
        if order.id == poison.order.id:
            tries.append(event.id)
            raise RuntimeError("cannot")
        return await route(order, event)

    async with working(log, "router", sometimes):
        [parked] = await eventually(log.parked)
        await eventually(status(log, healthy.order.id, "BUILDING"))
    assert len(tries) == LIMITS.deliveries_max
    assert parked.order_id == poison.order.id
    assert parked.reason == "RuntimeError: cannot"
    assert await types(log, poison.order.id) == ["OrderRequested"]


async def test_a_redriven_item_goes_on_from_where_the_order_is() -> None:
    log = MemoryLog(4)
    made = await requested(log)
    mended = asyncio.Event()

    async def until_mended(order: Order, event: Envelope) -> Sequence[Event]:
        if not mended.is_set():
            raise RuntimeError("not yet mended")
        return await route(order, event)

    async with working(log, "router", until_mended):
        [parked] = await eventually(log.parked)
        mended.set()
        assert await log.redrive(parked)
        await eventually(status(log, made.order.id, "BUILDING"))


async def test_a_handler_that_hangs_is_parked() -> None:
    log = MemoryLog(4)
    made = await requested(log)

    async def hang(_order: Order, _event: Envelope) -> Sequence[Event]:
        await asyncio.Event().wait()
        return []

    limits = WorkerLimits(block_ms=20, handle_seconds_max=0.01, deliveries_max=2, retry_base_s=0.001)
    async with working(log, "router", hang, limits=limits):
        [parked] = await eventually(log.parked)
    assert parked.order_id == made.order.id
    assert "TimeoutError" in parked.reason


async def test_an_item_that_killed_its_workers_is_parked_unhandled() -> None:
    log = MemoryLog(4)
    await requested(log)
    await log.take("router", "a", 8, 0)
    for _ in range(LIMITS.deliveries_max - 1):
        [item] = await log.take_pending("router", "a")
        await log.count_delivery(item)

    async def never(_order: Order, _event: Envelope) -> Sequence[Event]:
        raise AssertionError("handled once more")

    async with working(log, "router", never):
        [parked] = await eventually(log.parked)
    assert parked.reason.startswith("handed out")


async def test_what_cannot_be_decoded_is_parked_at_once() -> None:
    log = MemoryLog(4)
    made = await requested(log)
    [entry] = log._parts[partition_of(made.order.id)].trails[made.order.id]
    cast("dict[str, str]", entry.fields)["data"] = "not json"

    async with working(log, "router", route):
        [parked] = await eventually(log.parked)
    assert parked.reason.startswith("cannot be decoded")


async def test_an_item_of_a_cancelled_order_is_dropped() -> None:
    log = MemoryLog(4)
    made = await requested(log)
    cancel, _ = then(made, OrderCancelled(), source="gateway")
    await log.commit(cancel)

    async with working(log, "router", route):
        await eventually(lambda: no_backlog(log, "router"))
    assert await types(log, made.order.id) == ["OrderRequested", "OrderCancelled"]


@pytest.mark.parametrize("redelivered", [False, True])
async def test_an_item_of_an_order_that_ended_long_ago_is_dropped(redelivered: bool) -> None:
    log = MemoryLog(4)
    made = await requested(log)
    if redelivered:
        await log.take("router", "a", 8, 0)
    cancel, _ = then(made, OrderCancelled(), source="gateway")
    await log.commit(cancel)
    await log.retire([made.order.id])

    async with working(log, "router", route, consumer="a"):
        await eventually(lambda: no_backlog(log, "router"))
    assert await log.parked() == []


async def test_an_order_that_is_not_there_any_more_is_not_passed_over_in_silence() -> None:
    log = MemoryLog(4)
    made = await requested(log)
    log._parts[partition_of(made.order.id)].orders.clear()

    async with working(log, "router", route):
        [parked] = await eventually(log.parked)
    assert parked.reason == f"the log holds no order {made.order.id}"


async def no_backlog(log: MemoryLog, service: str) -> bool:
    return await log.backlog(service) == 0


async def test_a_crashed_workers_item_is_finished_by_the_next_start() -> None:
    log = MemoryLog(4)
    made = await requested(log)
    [item] = await log.take("router", "a", 8, 0)
    step, _ = then(made, routing_started(), item=item)
    await log.commit(step)

    async with working(log, "router", route, consumer="a"):
        await eventually(status(log, made.order.id, "BUILDING"))
    assert await types(log, made.order.id) == ["OrderRequested", "RoutingStarted", "RouteSelected"]


async def test_a_dead_workers_item_is_claimed_by_another() -> None:
    log = MemoryLog(4)
    made = await requested(log)
    await log.take("router", "dead", 8, 0)
    limits = WorkerLimits(block_ms=20, claim_every_s=0.01, claim_idle_ms=0, renew_every_s=0.01)

    async with working(log, "router", route, consumer="alive", limits=limits):
        await eventually(status(log, made.order.id, "BUILDING"))


class LossyLog(MemoryLog):
    """Applies every commit and loses the first replies."""

    def __init__(self, lost: int) -> None:
        super().__init__(4)
        self.lost = lost

    async def commit(self, step: Step) -> Outcome:
        outcome = await super().commit(step)
        if step.item and self.lost:
            self.lost -= 1
            raise OutcomeUnknown("the reply was lost")
        return outcome


async def test_a_lost_reply_makes_no_second_event() -> None:
    log = LossyLog(lost=4)
    made = await requested(log)
    async with working(log, "router", route), working(log, "executor", execute):
        await eventually(status(log, made.order.id, "CONFIRMED"))

    assert log.lost == 0
    assert len(await types(log, made.order.id)) == 5


class AwayLog(MemoryLog):
    away = True

    async def take(self, service: str, consumer: str, count: int, block_ms: int) -> list:  # type: ignore[type-arg]
        if self.away:
            raise LogUnavailable("away")
        return await super().take(service, consumer, count, block_ms)


async def test_while_the_log_is_away_the_worker_is_not_ready_and_then_goes_on() -> None:
    log = AwayLog(4)
    made = await requested(log)
    async with working(log, "router", route) as health:
        await eventually(lambda: health.reasons == {"log": "away"})
        log.away = False
        await eventually(status(log, made.order.id, "BUILDING"))
        assert health.ready


async def test_stopping_finishes_what_is_in_hand() -> None:
    log = MemoryLog(4)
    made = await requested(log)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(order: Order, event: Envelope) -> Sequence[Event]:
        begun.set()
        await may_end.wait()
        return await route(order, event)

    async with working(log, "router", slow):
        await begun.wait()
        asyncio.get_running_loop().call_later(0.05, may_end.set)
    held = await log.find(made.order.id)
    assert held is not None
    assert held.order.status == "BUILDING"
