"""Large orders ask their venues a dozen times as much: however many come at once, others are still answered."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from libs.events.order import Order
from libs.quoting import venues as venues_module
from libs.quoting.answer import Answer, Quote
from libs.quoting.splitting import TENTHS
from libs.quoting.venue import Question, Venue
from libs.quoting.venues import SPLITS_AT_ONCE_MAX, Venues
from tests.builders import SOL, a_request


class Slow:
    """A venue whose answers for shares are waited for."""

    def __init__(self, name: str) -> None:
        self.name, self.asked, self.answers = name, 0, asyncio.Event()

    async def quote_many(self, orders: Sequence[Order]) -> list[Answer]:
        return [self._offers(900) for _ in orders]

    async def ask_many(self, questions: Sequence[Question]) -> list[Answer]:
        self.asked += len(questions)
        await self.answers.wait()
        return [self._offers(100 * tenth - tenth**2) for tenth, _ in enumerate(questions, start=1)]

    def _offers(self, amount_out: int) -> Answer:
        return Answer(self.name, 1, Quote(amount_out, self.name, 1, SOL, 5_000, 50_000, {}))


async def test_so_many_orders_are_split_at_once_and_the_others_go_over_one_venue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(venues_module, "SPLIT_MORE_S", 60)
    slow = [Slow("a"), Slow("b")]
    venues = Venues(cast("Sequence[Venue]", slow), split_from_bps=10)
    asking = [asyncio.create_task(venues.ask([a_request(4)[1].order])) for _ in range(3 * SPLITS_AT_ONCE_MAX)]
    over_one = asking[SPLITS_AT_ONCE_MAX:]
    assert {len(answers) for found in await asyncio.wait_for(asyncio.gather(*over_one), 20) for answers in found} == {2}
    waiting = [task for task in asking if not task.done()]
    assert len(waiting) == SPLITS_AT_ONCE_MAX
    assert [venue.asked for venue in slow] == [SPLITS_AT_ONCE_MAX * (TENTHS - 1)] * 2
    for venue in slow:
        venue.answers.set()
    assert {len(answers) for task in waiting for answers in await task} == {3}
    (again,) = await venues.ask([a_request(4)[1].order])
    assert len(again) == 3


async def test_a_venue_that_hangs_when_it_is_asked_for_shares_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venues_module, "SPLIT_MORE_S", 0.01)
    hangs, quick = Slow("a"), Slow("b")
    quick.answers.set()
    venues = Venues(cast("Sequence[Venue]", [hangs, quick]), split_from_bps=10)
    orders = [a_request(4)[1].order for _ in range(3)]
    async with asyncio.timeout(20):
        found = await venues.ask(orders)
        assert [len(answers) for answers in found] == [2, 2, 2]
        hangs.answers.set()
        monkeypatch.setattr(venues_module, "SPLIT_MORE_S", 60)
        assert [len(answers) for answers in await venues.ask(orders)] == [3, 3, 3]
