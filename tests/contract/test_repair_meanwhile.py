"""While the log is made whole: it is cut short, others write, somebody else takes over."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from libs.events.errors import LogReplaced, LogUnavailable
from libs.events.ids import partition_of_user
from libs.events.redis_keys import Keys
from libs.events.redis_log import open_redis_log
from libs.events.redis_repair import RedisRepair
from libs.orders.store import StoreUnavailable, open_store
from services.projector import repair
from services.projector.repair import Repair
from tests.builders import route_selected
from tests.contract.repair_rig import (
    JOURNEYS,
    PARTITIONS,
    World,
    an_order,
    every_state,
    gone_on,
    remembered,
)
from tests.waiting import eventually

POINTS = (
    "repair.adopt.before",
    "repair.adopt.after",
    "repair.orders.after",
    "repair.append.after",
    "repair.open.before",
)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("copy_is", ["empty", "old"])
async def test_a_repair_cut_short_is_begun_anew(
    world: World, point: str, copy_is: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await an_order(world.log, "user-2", JOURNEYS[3])
    old = await world.copy() if copy_is == "old" else {}
    await every_state(world.log)
    await world.archive()
    before = await remembered(world)
    await world.lose_everything()
    await world.bring_back(old)

    class Crashed(Exception):
        pass

    def crash(name: str) -> None:
        if name == point:
            raise Crashed

    with monkeypatch.context() as patch:
        patch.setattr(repair, "crash_point", crash)
        with pytest.raises(Crashed):
            await world.mended()
        with pytest.raises((LogUnavailable, LogReplaced)):
            await an_order(world.log, "user-1")
    await world.mended()
    assert await remembered(world) == before


@pytest.mark.parametrize("keeps_all", [True, False])
async def test_writers_stay_out_until_the_log_was_checked(
    world: World, keeps_all: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told(_: RedisRepair) -> bool:
        return keeps_all

    monkeypatch.setattr(RedisRepair, "keeps_all", told)
    await an_order(world.log, "user-1")
    await world.archive()
    for partition in range(PARTITIONS):
        await world.redis.hset(Keys(partition).meta, "run", "the run before")
    before = await remembered(world)
    with pytest.raises(LogUnavailable):
        await an_order(world.log, "user-1")
    with pytest.raises(LogUnavailable):
        await world.log.start()
    assert await remembered(world) == before
    epoch = world.log.epoch

    await world.mended()
    assert (world.log.epoch == epoch) is keeps_all, "the same log only where nothing can have been lost"
    assert await remembered(world) == before
    await an_order(world.log, "user-1")


async def test_a_partition_that_is_whole_is_written_to_until_the_log_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await every_state(world.log)
    await world.archive()
    await world.redis.delete(Keys(0).meta)
    whole = next(user for user in map(str, range(100)) if partition_of_user(user, PARTITIONS) == 1)
    mender = world.repair()
    close = mender._redis.close

    async def at_the_last_moment() -> Any:
        await an_order(world.log, whole, JOURNEYS[1])
        return await close()

    monkeypatch.setattr(mender._redis, "close", at_the_last_moment)
    await mender.mend()
    await world.log.start()
    await an_order(world.log, whole, JOURNEYS[1])
    await world.archive()
    for partition in range(PARTITIONS):
        rows = await world.redis.xrange(Keys(partition).log)
        assert [int(at.partition("-")[2]) for at, _ in rows] == list(range(1, len(rows) + 1))


async def test_who_was_frozen_in_the_middle_of_a_repair_undoes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await an_order(world.log, "user-1", JOURNEYS[1])
    await world.archive()
    await world.lose_everything()
    frozen, thawed = asyncio.Event(), asyncio.Event()
    late = world.repair()
    remake = late._redis.remake_orders

    async def freeze(*given: Any) -> None:
        frozen.set()
        await thawed.wait()
        await remake(*given)

    monkeypatch.setattr(late._redis, "remake_orders", freeze)
    mending = asyncio.create_task(late.mend())
    await frozen.wait()
    async with open_redis_log(world.url, PARTITIONS) as log, open_store(world.store_url) as store:
        with pytest.raises(StoreUnavailable, match="another projector"):
            await Repair(log, store, store.projection()).mend()
        await world.postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await mended_by(Repair(log, store, store.projection()))
        await log.start()
        await gone_on(log, made, route_selected())
        before = await remembered(world)
        thawed.set()
        with pytest.raises((LogUnavailable, StoreUnavailable)):
            await mending
        assert await remembered(world) == before
        await log.start()


async def mended_by(mender: Repair) -> None:
    """Postgres takes a moment to see that a session is over."""

    async def done() -> bool:
        with suppress(StoreUnavailable):
            await mender.mend()
            return True
        return False

    await eventually(done, what="the other one mends")
