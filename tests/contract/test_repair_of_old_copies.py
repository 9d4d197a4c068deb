"""A log that comes back from a copy of days ago: what must not be as Redis has it."""

from datetime import timedelta

import pytest

from libs.events.model import Status
from libs.orders.views import OrderViews
from services.projector import repair
from tests.builders import route_selected, tx_confirmed, tx_submitted
from tests.contract.repair_rig import JOURNEYS, World, an_order, gone_on, remembered


async def test_an_order_that_was_open_in_a_copy_of_a_moment_ago_is_open_no_more(world: World) -> None:
    order = await an_order(world.log, "user-1", JOURNEYS[1])
    copy = await world.copy()
    for event in (route_selected(), tx_submitted(), tx_confirmed()):
        order = await gone_on(world.log, order, event)
    await world.archive()
    before = await remembered(world)
    await world.lose_everything()
    await world.bring_back(copy)
    await world.mended()
    assert await remembered(world) == before


async def test_an_order_that_was_open_in_a_copy_of_days_ago_is_as_it_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis would never let go of it: its owner could cancel what is settled, and the projector would stop at that."""
    before = await an_order(world.log, "user-1", JOURNEYS[1])
    copy = await world.copy()
    for event in (route_selected(), tx_submitted(), tx_confirmed()):
        before = await gone_on(world.log, before, event)
    await world.archive()
    await world.lose_everything()
    await world.bring_back(copy)
    monkeypatch.setattr(repair, "KEPT", timedelta(0))  # all of it was longer ago than Redis keeps what has ended
    await world.mended()

    found = await OrderViews(world.log, world.store).get(before.order.id)
    assert found is not None
    assert found.status is Status.CONFIRMED
