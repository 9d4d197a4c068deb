"""Of several projectors one writes, and the others take over: by a lock that lasts as long as its connection."""

import asyncio
from contextlib import AsyncExitStack, aclosing

import asyncpg
import pytest

from libs.events.ids import START
from libs.orders.batch import Batch
from libs.orders.locks import Lock, Seat
from libs.orders.store import OrderStore, StoreUnavailable
from services.projector import handlers
from tests.contract.projector_rig import (
    PARTITIONS,
    StartedMemoryLog,
    assert_postgres_is_the_fold_of,
    caught_up,
    standing_by,
)
from tests.journeys import journey
from tests.waiting import eventually

HOLDER = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid::bigint = $1 AND granted"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> StartedMemoryLog:
    monkeypatch.setattr(handlers, "STAND_BY_S", 0.02)
    return StartedMemoryLog()


async def holder(direct: asyncpg.Connection) -> int | None:
    pid: int | None = await direct.fetchval(HOLDER, Lock.PROJECTING.value)
    return pid


async def test_one_writes_and_the_others_take_over_again_and_again(
    log: StartedMemoryLog, store: OrderStore, direct: asyncpg.Connection
) -> None:
    async with AsyncExitStack() as stack:
        tasks = [await stack.enter_async_context(standing_by(log, store)) for _ in range(3)]
        for number in range(5):
            placing = asyncio.gather(*(journey(log, f"user-{number}-{user}") for user in range(8)))
            pid = await eventually(lambda: holder(direct), what="one has the place")
            await direct.fetchval("SELECT pg_terminate_backend($1)", pid)
            await placing
            await eventually(lambda: caught_up(log, store))
        assert not any(task.done() for task in tasks)
    await assert_postgres_is_the_fold_of(log, store)


async def test_who_leaves_leaves_the_place(log: StartedMemoryLog, store: OrderStore) -> None:
    async with standing_by(log, store):
        await journey(log, "user-1")
        await eventually(lambda: caught_up(log, store))
    async with aclosing(Seat(store, Lock.PROJECTING)) as seat:
        assert await eventually(seat.take, what="the place is free")
        assert await seat.take()


async def test_what_is_under_way_when_the_place_is_lost_is_not_written(
    log: StartedMemoryLog, store: OrderStore, direct: asyncpg.Connection
) -> None:
    await journey(log, "user-1")
    after = dict.fromkeys(range(PARTITIONS), START)
    batch = Batch(after, await log.read(after, 1_000, 0))
    async with aclosing(Seat(store, Lock.PROJECTING)) as late, aclosing(Seat(store, Lock.PROJECTING)) as next_one:
        assert await late.take()
        assert not await next_one.take()
        projection = store.projection(through=late)
        await projection.resume(log.epoch, PARTITIONS)

        async def write_late() -> None:
            async with late.connection() as connection, connection.transaction():
                await projection.write(connection, log.epoch, batch)
                await direct.fetchval("SELECT pg_terminate_backend($1)", await holder(direct))
                assert await eventually(next_one.take, what="the place is free")

        with pytest.raises(StoreUnavailable):
            await write_late()
        with pytest.raises(StoreUnavailable, match="is gone"):
            await projection.resume(log.epoch, PARTITIONS)
        assert not await late.take()
        assert await store.archived(batch.entries[0].partition, 0, 10) == []
        heir = store.projection(through=next_one)
        await heir.apply(log.epoch, Batch(await heir.resume(log.epoch, PARTITIONS), batch.entries))
    await assert_postgres_is_the_fold_of(log, store)


async def test_without_a_place_nothing_is_written(store: OrderStore) -> None:
    async with aclosing(Seat(store, Lock.PROJECTING)) as seat:
        with pytest.raises(StoreUnavailable, match="is gone"):
            await store.projection(through=seat).resume("epoch", PARTITIONS)
