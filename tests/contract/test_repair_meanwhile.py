"""While the log is made whole: it is cut short, others write, somebody else takes over."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from libs.events.errors import LogReplaced, LogUnavailable
from libs.events.ids import partition_of_user
from libs.events.reactions import ROUTER
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


@pytest.mark.parametrize("cut", ["forget_orders", "drop_work", "remake_keys"])
async def test_a_repair_of_a_half_commit_that_is_cut_short_is_begun_anew(
    world: World, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the half is gone from the log, nothing there tells that its order and key are to go, and keys to be made."""
    await every_state(world.log)
    await world.archive()
    keys = Keys(partition_of_user("user-1", PARTITIONS))
    position = (await world.log.tip(partition_of_user("user-1", PARTITIONS))).position
    half = await an_order(world.log, "user-1", key="half")
    [(half_at, _)] = await world.redis.xrevrange(keys.log, count=1)
    [(item, _)] = await world.redis.xrevrange(keys.work(ROUTER), count=1)
    held = await world.copy()
    copy = {name: held[name] for name in held if name.endswith((b":half", half.order.id.encode()))}
    # As if Redis had died of it; what follows takes its position, and at the next start it is there again.
    await world.redis.hset(keys.meta, "position", position)
    await world.redis.xdel(keys.work(ROUTER), item)
    await world.redis.zrem(keys.recent("user-1"), half.order.id)
    await world.redis.srem(keys.open("user-1"), half.order.id)
    for name in copy:
        await world.redis.delete(name.decode())
    await asyncio.sleep(0.002)  # in another millisecond than the half, so that both can stand in the log
    await an_order(world.log, "user-1", key="whole")
    before = await remembered(world)
    rows, lasts = before[keys.log]
    before[keys.log] = [row for row in rows if row[0] != half_at], lasts
    await world.bring_back(copy)

    async def away(*_: Any) -> None:
        raise LogUnavailable("Redis is away")

    with monkeypatch.context() as patch:
        patch.setattr(RedisRepair, cut, away)
        with pytest.raises(LogUnavailable):
            await world.mended()
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
