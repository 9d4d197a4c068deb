"""Limit orders: they wait as OPEN, are woken when the price moves, and end on time."""

from collections.abc import AsyncIterator

import pytest

from libs.events.log import Committed, EventLog
from libs.events.model import Reason, Status
from libs.events.reactions import EXECUTOR
from services.router.prices import PriceWatch
from tests.builders import as_one, attempt_failed, then
from tests.contract.event_log_rig import new_log
from tests.contract.open_orders_rig import PARTITIONS, Market, becomes, placed, routing
from tests.waiting import eventually


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[EventLog]:
    async with new_log(log_url, PARTITIONS) as made:
        yield made


async def test_an_order_waits_for_its_price_and_goes_on_when_it_is_met(log: EventLog) -> None:
    market = Market(150_000_000)
    async with routing(log, market) as watch:
        order_id = await placed(log, 160_000_000)
        opened = await becomes(log, order_id, Status.OPEN)
        assert opened.attempt == 1
        assert await watch.look() == 0
        market.price = 159_999_999
        assert await watch.look() == 0
        market.price = 161_000_000
        await eventually(watch.look)
        routed = await becomes(log, order_id, Status.BUILDING)
    assert routed.route
    assert (routed.attempt, routed.route.min_out) == (1, 160_195_000)


async def test_a_pause_after_a_failure_is_kept_whoever_watches(log: EventLog) -> None:
    market = Market(150_000_000)
    async with routing(log, market) as watch:
        order_id = await placed(log, 160_000_000)
        await becomes(log, order_id, Status.OPEN)
        another = PriceWatch(log, as_one(market))
        assert [await watch.look(), await another.look()] == [0, 0]
        market.price = 161_000_000
        assert await watch.look() == 1
        await becomes(log, order_id, Status.BUILDING)
        held = await log.find(order_id)
        assert held
        step, _ = then(held, attempt_failed(delay_ms=3_600_000), source=EXECUTOR)
        assert isinstance(await log.commit(step), Committed)
        assert await another.look() == 0
        assert await log.move_due() == 0
        assert (await becomes(log, order_id, Status.RETRYING)).attempt == 1


async def test_the_price_is_a_floor_below_which_no_slippage_goes(log: EventLog) -> None:
    async with routing(log, Market(160_500_000)):
        routed = await becomes(log, await placed(log, 160_000_000), Status.BUILDING)
    assert routed.route
    assert routed.route.min_out == 160_000_000


async def test_an_open_order_ends_on_time(log: EventLog) -> None:
    async with routing(log, Market(150_000_000)):
        order_id = await placed(log, 160_000_000, seconds=0.6)
        await becomes(log, order_id, Status.OPEN)
        await becomes(log, order_id, Status.EXPIRED)


@pytest.mark.parametrize("tif", ["IOC", "FOK"])
@pytest.mark.parametrize("price", ["1", None])
async def test_an_order_for_this_moment_does_not_wait(log: EventLog, tif: str, price: str | None) -> None:
    async with routing(log, Market(150_000_000)):
        failed = await becomes(log, await placed(log, 160_000_000, price=price, tif=tif), Status.FAILED)
    assert failed.failure
    assert failed.failure.reason is Reason.PRICE_NOT_MET
    assert failed.attempt == 1


async def test_a_floor_without_a_price_is_tried_as_often_as_any_order(log: EventLog) -> None:
    async with routing(log, Market(150_000_000)):
        failed = await becomes(log, await placed(log, 160_000_000, price=None, tif=None), Status.FAILED)
    assert failed.attempt == 3
