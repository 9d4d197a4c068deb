"""A chain that is away for all orders in hand: one line when it goes and one when it is back, whatever waits for it."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from structlog.testing import capture_logs

from libs.events.log import Snapshot
from services.executor import observe, settling
from tests.contract.executor_rig import Rig, running_rig, submitted


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(settling, "SETTLE_SECONDS_MAX", 0.3)
    async with running_rig(monkeypatch) as rig:
        yield rig


async def outage(rig: Rig, orders: Sequence[Snapshot]) -> None:
    rig.fake.away = 1_000_000
    for _ in range(2):  # as the runtime does: no events means, ask again
        assert await asyncio.gather(*map(rig.handle, orders)) == [[]] * len(orders)
    rig.fake.away = 0
    await asyncio.gather(*map(rig.settled, orders))


async def test_it_is_said_once_and_that_it_is_over_once_however_many_orders_wait(rig: Rig) -> None:
    orders = [await submitted(rig) for _ in range(3)]
    for _ in range(2):
        with capture_logs() as said:
            await outage(rig, orders)
        loud = sorted(one["event"] for one in said if one["log_level"] == "warning")
        assert loud == ["transaction_look_trouble", "transaction_send_trouble"]
        over = [(one["what"], one["orders"]) for one in said if one["event"] == "transaction_trouble_over"]
        assert sorted(over) == [("looked up", 3), ("sent", 3)]


async def test_each_send_that_failed_is_counted(rig: Rig) -> None:
    counted = observe._SEND_TROUBLE.labels("unavailable")._value
    before = counted.get()
    await outage(rig, [await submitted(rig) for _ in range(3)])
    assert counted.get() - before >= 2 * 3
