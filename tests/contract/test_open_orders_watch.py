"""The watch of limit orders: venues are not asked for each, and none hides another."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest

from libs.events.log import EventLog, Snapshot
from libs.events.model import Status
from libs.events.order import Order
from libs.events.trusted import changed
from libs.quoting.answer import Answer
from services.router import prices
from services.router.prices import PriceWatch
from tests.builders import as_one
from tests.contract.event_log_rig import new_log
from tests.contract.open_orders_rig import PARTITIONS, SELLS, Market, becomes, placed, routing
from tests.waiting import eventually


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[EventLog]:
    async with new_log(log_url, PARTITIONS) as made:
        yield made


async def test_many_open_orders_are_one_question(log: EventLog) -> None:
    market = Market(150_000_000)
    async with routing(log, market) as watch:
        ids = [await placed(log, 160_000_000 + n * 1_000_000) for n in range(30)]
        for order_id in ids:
            await becomes(log, order_id, Status.OPEN)
        market.asked = 0
        await watch.look()
        assert market.asked == 1
        market.price = 163_000_000
        assert await eventually(watch.look) == 4
        for order_id in ids[:4]:
            await becomes(log, order_id, Status.BUILDING)
        for order_id in ids[4:]:
            await becomes(log, order_id, Status.OPEN)


class Shallow(Market):
    """Gives ten thousand SOL at a time no more than one is worth."""

    async def quote_many(self, orders: Sequence[Order]) -> list[Answer]:
        small = [order if order.amount_in == SELLS else changed(order, {"amount_in": SELLS}) for order in orders]
        return await super().quote_many(small)


async def test_orders_too_large_for_their_price_hide_no_other(log: EventLog) -> None:
    market = Shallow(150_000_000)
    async with routing(log, market) as watch:
        large = [await placed(log, 160_000_000, sells=10_000 * SELLS) for _ in range(40)]
        small = await placed(log, 155_000_000)
        for order_id in [*large, small]:
            await becomes(log, order_id, Status.OPEN)
        market.price = 156_000_000
        assert any([await watch.look() for _ in range(10)])
        await becomes(log, small, Status.BUILDING)


async def test_many_orders_of_one_user_hide_none_of_anothers(log: EventLog) -> None:
    market = Shallow(150_000_000)
    async with routing(log, market) as watch:
        many = [await placed(log, 160_000_000, sells=10_000 * SELLS) for _ in range(200)]
        one = await placed(log, 155_000_000, user="bob")
        for order_id in [*many, one]:
            await becomes(log, order_id, Status.OPEN)
        market.price = 156_000_000
        assert any([await watch.look() for _ in range(3)])
        await becomes(log, one, Status.BUILDING)


async def test_more_orders_than_a_watch_can_know_take_turns(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "WAITING_MAX", 10 * PARTITIONS)
    monkeypatch.setattr(prices, "LOOKS_PER_TURN", 1)
    market = Market(150_000_000)
    async with routing(log, market) as watch:
        soon = [await placed(log, 160_000_000) for _ in range(25)]
        later = await placed(log, 155_000_000, seconds=600)
        for order_id in [*soon, later]:
            await becomes(log, order_id, Status.OPEN)
        market.price = 156_000_000
        assert any([await watch.look() for _ in range(6)])
        await becomes(log, later, Status.BUILDING)


async def test_a_few_more_than_can_be_known_cost_the_others_no_whole_turn(log: EventLog) -> None:
    async with routing(log, Market(150_000_000)):
        for order_id in [await placed(log, 160_000_000, seconds=100 + number) for number in range(11)]:
            await becomes(log, order_id, Status.OPEN)
        soonest, others = await log.timers(10), await log.timers(10, 1)
        assert (len(soonest), len(others), len({*soonest, *others})) == (10, 10, 11)


class Odd:
    """A log that holds an order which this release cannot read."""

    partitions = PARTITIONS

    def __init__(self, log: EventLog, odd: str) -> None:
        self._log, self._odd = log, odd

    async def timers(self, count: int, turn: int = 0) -> list[str]:
        return await self._log.timers(count, turn)

    async def hasten(self, order_ids: Sequence[str]) -> None:
        await self._log.hasten(order_ids)

    async def find_many(self, order_ids: Sequence[str]) -> dict[str, Snapshot]:
        return await self._log.find_many([order_id for order_id in order_ids if order_id != self._odd])


class Crowded:
    """A log with more orders that wait than a watch can know."""

    partitions = PARTITIONS

    def __init__(self) -> None:
        self.told, self.asked = 0, list[int]()

    async def timers(self, count: int, turn: int = 0) -> list[str]:
        self.told = count * self.partitions
        return [f"order-{number}" for number in range(self.told)]

    async def hasten(self, order_ids: Sequence[str]) -> None:
        raise AssertionError(order_ids)

    async def find_many(self, order_ids: Sequence[str]) -> dict[str, Snapshot]:
        self.asked.append(len(order_ids))
        return {}


async def test_many_waiting_orders_are_learned_of_page_by_page_and_only_so_many() -> None:
    log, market = Crowded(), Market(150_000_000)
    assert await PriceWatch(log, as_one(market)).look() == 0
    assert log.told == prices.WAITING_MAX
    assert sum(log.asked) == prices.WAITING_MAX
    assert max(log.asked) <= 500


async def test_an_order_that_cannot_be_read_hides_no_other(log: EventLog) -> None:
    market = Market(150_000_000)
    async with routing(log, market):
        ids = [await placed(log, 160_000_000) for _ in range(5)]
        for order_id in ids:
            await becomes(log, order_id, Status.OPEN)
        market.price = 161_000_000
        assert await PriceWatch(Odd(log, ids[2]), as_one(market)).look() == 4


class Mad(Market):
    """Fails in a way that no venue should, at first."""

    async def quote_many(self, orders: Sequence[Order]) -> list[Answer]:
        answers = await super().quote_many(orders)
        if self.asked == 1:
            raise RuntimeError("a bug of ours")
        return answers


async def test_a_look_that_failed_has_its_next_time(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "LOOK_EVERY_S", 0.01)
    market = Market(150_000_000)
    async with routing(log, market):
        order_id = await placed(log, 160_000_000)
        await becomes(log, order_id, Status.OPEN)
        market.price = 161_000_000
        watching = asyncio.create_task(PriceWatch(log, as_one(Mad(161_000_000))).run())
        try:
            await becomes(log, order_id, Status.BUILDING)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def test_only_what_waits_can_be_hastened(log: EventLog) -> None:
    await log.hasten(["01a205c4-6fe7-7367-94f4-2ccd80d6a000"])
    assert "01a205c4-6fe7-7367-94f4-2ccd80d6a000" not in await log.timers(1_000)
