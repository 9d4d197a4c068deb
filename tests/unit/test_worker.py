"""The runtime on a memory log: who acts, what is tried again, what is left for the next start."""

import asyncio
from collections.abc import Sequence

import pytest

from libs.events.envelope import Envelope
from libs.events.errors import LogReplaced, LogUnavailable, OutcomeUnknown
from libs.events.log import Outcome, Step
from libs.events.memory_log import MemoryLog
from libs.events.model import Event, RoutingStarted
from libs.events.order import Order
from libs.events.work import Item
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health
from tests.builders import attempt_failed, routing_started, then
from tests.unit.worker_rig import LIMITS, execute, requested, route, status, types, working
from tests.waiting import eventually


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

    async def take(self, service: str, consumer: str, count: int, block_ms: int) -> list[Item]:
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


class ReplacedLog(MemoryLog):
    replaced = False

    async def commit(self, step: Step) -> Outcome:
        if self.replaced:
            raise LogReplaced("another epoch")
        return await super().commit(step)


async def test_when_the_log_was_replaced_the_run_ends_with_nothing_in_hand_and_the_next_goes_on() -> None:
    log, health = ReplacedLog(4), Health("log")
    made = [await requested(log) for _ in range(2)]
    slow, both_begun, given_up = made[0].order.id, asyncio.Event(), asyncio.Event()

    async def until_replaced(order: Order, event: Envelope) -> Sequence[Event]:
        if order.id == slow and log.replaced:
            both_begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()
        if log.replaced:
            await both_begun.wait()
        return await route(order, event)

    log.replaced = True
    worker = Worker(log, "router", until_replaced, consumer="a", health=health, limits=LIMITS, drain_s=1)
    with pytest.raises(LogReplaced):
        await asyncio.wait_for(worker.run(asyncio.Event()), 30)
    assert given_up.is_set()
    assert health.reasons == {"log": "another epoch"}

    log.replaced, stop = False, asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    for each in made:
        await eventually(status(log, each.order.id, "BUILDING"))
    stop.set()
    await running


@pytest.mark.parametrize("silent", [False, True])
async def test_a_worker_that_is_told_to_stop_while_the_log_is_away_stops(silent: bool) -> None:
    class Away(MemoryLog):
        async def uncount_delivery(self, items: Sequence[Item]) -> None:
            if silent:
                await asyncio.Event().wait()
            raise LogUnavailable("away")

    log, begun, stop = Away(4), asyncio.Event(), asyncio.Event()
    await requested(log)
    await log.take("router", "a", 8, 0)

    async def hang(_order: Order, _event: Envelope) -> Sequence[Event]:
        begun.set()
        await asyncio.Event().wait()
        return []

    worker = Worker(log, "router", hang, consumer="a", health=Health("log"), limits=LIMITS, drain_s=0)
    running = asyncio.create_task(worker.run(stop))
    await begun.wait()
    stop.set()
    await asyncio.wait_for(running, 30)
