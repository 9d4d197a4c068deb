"""A log that comes back from a copy of days ago: what must not be as Redis has it."""

from datetime import timedelta

import pytest

from libs.events.ids import partition_of
from libs.events.model import Status
from libs.events.redis_keys import Keys
from libs.events.redis_repair import RedisRepair
from libs.orders.views import OrderViews
from services.projector import repair
from tests.builders import route_selected, tx_confirmed, tx_submitted
from tests.contract.repair_rig import JOURNEYS, PARTITIONS, World, an_order, gone_on, remembered


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


async def test_a_reader_that_saw_what_is_lost_is_proof_of_it_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every start of Redis after that everybody would have to start over."""

    async def told(_: object) -> bool:
        return True

    async def redis_restarts() -> str:
        for each in range(PARTITIONS):
            await world.redis.hdel(Keys(each).meta, "run")
        await world.mended()
        return world.log.epoch

    monkeypatch.setattr(RedisRepair, "keeps_all", told)
    await an_order(world.log, "user-1")
    await world.archive()
    lost = await an_order(world.log, "user-1")
    partition = partition_of(lost.order.id)
    seen = await world.log.tip(partition)
    await world.log.register_reader("integrator", {partition: seen})
    await world.redis.xdel(Keys(partition).log, str(seen))
    before = world.log.epoch
    without_it = await redis_restarts()
    assert without_it != before
    assert await redis_restarts() == without_it
