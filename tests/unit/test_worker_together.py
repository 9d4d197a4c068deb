"""Items that come together are handled together, and whatever is wrong with one of them is no other's trouble."""

import asyncio
from collections.abc import Sequence
from typing import cast

from libs.events.envelope import Envelope
from libs.events.errors import OutcomeUnknown
from libs.events.ids import partition_of
from libs.events.log import Outcome, Snapshot, Step
from libs.events.memory_log import MemoryLog
from libs.events.model import Event, OrderCancelled, RoutingStarted
from libs.events.order import Order
from libs.events.together import Pair
from libs.events.worker_limits import WorkerLimits
from tests.builders import then
from tests.unit.worker_rig import no_backlog, requested, route, status, types, working
from tests.waiting import eventually

ROUTED = ["OrderRequested", "RoutingStarted", "RouteSelected"]


async def never(_order: Order, event: Envelope) -> Sequence[Event]:
    raise AssertionError(f"{event.id} was handled by itself")


async def all_routed(pairs: Sequence[Pair]) -> list[Sequence[Event] | Exception]:
    return [await route(order, event) for order, event in pairs]


async def several(log: MemoryLog, count: int = 3) -> list[Snapshot]:
    return [await requested(log) for _ in range(count)]


async def all_are_routed(log: MemoryLog, made: Sequence[Snapshot]) -> None:
    for each in made:
        await eventually(status(log, each.order.id, "BUILDING"))
        assert await types(log, each.order.id) == ROUTED
    await eventually(lambda: no_backlog(log, "router"))


async def test_they_go_on_together_until_another_service_acts() -> None:
    log = MemoryLog(1)
    made = await several(log)
    sizes: list[int] = []

    async def counted(pairs: Sequence[Pair]) -> list[Sequence[Event] | Exception]:
        sizes.append(len(pairs))
        return await all_routed(pairs)

    async with working(log, "router", never, handle_many=counted):
        await all_are_routed(log, made)
    assert sizes == [3, 3]


async def test_when_the_handler_for_many_fails_each_is_handled_by_itself() -> None:
    log = MemoryLog(1)
    made = await several(log)

    async def broken(_pairs: Sequence[Pair]) -> list[Sequence[Event] | Exception]:
        raise RuntimeError("one of them, who knows which")

    async with working(log, "router", route, handle_many=broken):
        await all_are_routed(log, made)


async def test_when_the_handler_for_many_hangs_each_is_handled_by_itself() -> None:
    log = MemoryLog(1)
    made = await several(log)

    async def hang(_pairs: Sequence[Pair]) -> list[Sequence[Event] | Exception]:
        await asyncio.Event().wait()
        return []

    limits = WorkerLimits(block_ms=20, handle_seconds_max=0.05)
    async with working(log, "router", route, handle_many=hang, limits=limits):
        await all_are_routed(log, made)


async def test_one_that_fails_or_is_undecided_is_tried_by_itself_and_the_others_go_on_together() -> None:
    log = MemoryLog(1)
    made = await several(log, 4)
    failing, undecided, *others = (each.order.id for each in made)
    by_itself: list[str] = []

    async def some_fail(pairs: Sequence[Pair]) -> list[Sequence[Event] | Exception]:
        outcomes: dict[str, Sequence[Event] | Exception] = {failing: RuntimeError("cannot"), undecided: []}
        return [outcomes.get(order.id, await route(order, event)) for order, event in pairs]

    async def alone(order: Order, event: Envelope) -> Sequence[Event]:
        assert order.id not in others
        if isinstance(event.data, RoutingStarted):
            by_itself.append(order.id)
        return await route(order, event)

    async with working(log, "router", alone, handle_many=some_fail):
        await all_are_routed(log, made)
    assert sorted(by_itself) == sorted([failing, undecided])


async def test_one_that_cannot_be_decoded_is_set_aside_and_the_others_go_on() -> None:
    log = MemoryLog(1)
    broken, *others = await several(log)
    [entry] = log._parts[partition_of(broken.order.id)].trails[broken.order.id]
    cast("dict[str, str]", entry.fields)["data"] = "not json"

    async with working(log, "router", never, handle_many=all_routed):
        [parked] = await eventually(log.parked)
        await all_are_routed(log, others)
    assert parked.order_id == broken.order.id


async def test_one_that_was_cancelled_meanwhile_is_given_back_and_the_others_go_on() -> None:
    log = MemoryLog(1)
    cancelled, *others = await several(log)

    async def too_late(pairs: Sequence[Pair]) -> list[Sequence[Event] | Exception]:
        if pairs[0][0].id == cancelled.order.id:
            step, _ = then(cancelled, OrderCancelled(), source="gateway")
            await log.commit(step)
        return await all_routed(pairs)

    async with working(log, "router", never, handle_many=too_late):
        await all_are_routed(log, others)
    assert await types(log, cancelled.order.id) == ["OrderRequested", "OrderCancelled"]


async def test_those_whose_replies_were_lost_go_on_from_what_the_log_says() -> None:
    class Lossy(MemoryLog):
        lost = 0

        async def commit_many(self, steps: Sequence[Step]) -> list[Outcome | Exception]:
            outcomes = await super().commit_many(steps)
            if self.lost:
                return outcomes
            self.lost = len(outcomes)
            return [OutcomeUnknown("the reply was lost") for _ in outcomes]

    log = Lossy(1)
    made = await several(log)
    async with working(log, "router", route, handle_many=all_routed):
        await all_are_routed(log, made)
    assert log.lost == 3
