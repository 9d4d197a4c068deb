"""What a worker sets aside because it cannot be handled, and what it drops because it need not be."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from libs.events.envelope import Envelope
from libs.events.ids import partition_of
from libs.events.memory_log import MemoryLog
from libs.events.model import Event, OrderCancelled
from libs.events.order import Order
from libs.events.worker_limits import WorkerLimits
from tests.builders import then
from tests.unit.worker_rig import LIMITS, no_backlog, requested, route, status, types, working
from tests.waiting import eventually


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
    assert (parked.reason, parked.deliveries) == ("RuntimeError: cannot", LIMITS.deliveries_max)
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
    assert parked.reason == f"handed out {parked.deliveries} times and never finished"
    assert parked.deliveries == LIMITS.deliveries_max


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
