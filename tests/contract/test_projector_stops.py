"""What ends a projector, and loudly: nothing it could wait for makes up for it."""

import asyncpg
import pytest

from libs.events.errors import LogMismatch, PositionGap
from libs.events.log import EventLog
from libs.events.redis_log import RedisLog
from libs.orders.rows import Undecodable
from libs.orders.store import CheckpointMoved, OrderStore
from tests.contract.projector_rig import (
    StartedMemoryLog,
    assert_postgres_is_the_fold_of,
    caught_up,
    projecting,
    whole,
)
from tests.journeys import journey
from tests.waiting import eventually


async def test_garbage_in_the_log_stops_it_with_the_place(store: OrderStore) -> None:
    log = StartedMemoryLog()
    await journey(log, "user-1")
    log.spoil = {3: "{"}
    async with projecting(log, store) as task:
        with pytest.raises(Undecodable, match=r"entry \d+-3 is not an event"):
            await task


async def test_another_log_stops_it(store: OrderStore) -> None:
    log = StartedMemoryLog()
    await journey(log, "user-1")
    async with projecting(log, store):
        await eventually(lambda: caught_up(log, store))
    log.epoch_now = "another"
    async with projecting(log, store) as task:
        with pytest.raises(LogMismatch, match="the log now there has epoch another"):
            await task


async def test_a_log_that_lost_its_tail_stops_it(store: OrderStore) -> None:
    log = StartedMemoryLog()
    await journey(log, "user-1")
    async with projecting(log, store):
        await eventually(lambda: caught_up(log, store))
    async with projecting(StartedMemoryLog(), store) as task:
        with pytest.raises(LogMismatch, match="Redis lost its tail"):
            await task


async def test_a_hole_in_the_log_stops_it(redis_log: RedisLog, redis_url: str, store: OrderStore) -> None:
    snapshot = await journey(redis_log, "user-1")
    partition = (await whole(redis_log))[0].partition
    third = (await redis_log.history(snapshot.order.id))[2].at
    await redis_log._redis.send([["XDEL", redis_log._keys[partition].log, str(third)]])
    async with projecting(redis_log, store) as task:
        with pytest.raises(PositionGap):
            await task


async def test_a_second_projector_is_stopped_by_the_checkpoint(store: OrderStore, direct: asyncpg.Connection) -> None:
    log = StartedMemoryLog()
    await journey(log, "user-1")
    async with projecting(log, store) as one, projecting(log, store) as other:
        await eventually(lambda: one.done() or other.done() or _go_on(log), what="one of the two has stopped")
        loser = one if one.done() else other
        with pytest.raises(CheckpointMoved, match="another process writes the same projection"):
            await loser
        await eventually(lambda: caught_up(log, store))
    await assert_postgres_is_the_fold_of(log, store)


async def _go_on(log: EventLog) -> bool:
    await journey(log, "user-1")
    return False
