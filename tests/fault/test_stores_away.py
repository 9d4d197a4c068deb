"""Stores that are away, restarted or take nothing, under the whole system: said, waited for, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.checker import all_terminal
from tests.fault.stores_rig import World, redis_of, system_of
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with system_of(tmp_path_factory.mktemp("away") / "data") as made:
        yield made


async def test_redis_restarted_in_the_middle_loses_nothing(world: World) -> None:
    epoch = await world.epoch()
    placing = asyncio.create_task(world.place(20))
    for _ in range(3):
        await world.stack.kill("redis")
        await world.stack.until_ready("redis")
    orders = await placing
    assert await world.epoch() == epoch, "nothing was lost, so it is the same log"
    await world.ends_well(orders)


@asynccontextmanager
async def setting(world: World, name: str, value: str) -> AsyncIterator[None]:
    async with redis_of(world) as redis:
        before = (await redis.config_get(name))[name]
        await redis.config_set(name, value)
        try:
            yield
        finally:
            await redis.config_set(name, before)


@asynccontextmanager
async def read_only(world: World) -> AsyncIterator[None]:
    async with redis_of(world) as redis:
        await redis.replicaof("127.0.0.1", "1")
        try:
            yield
        finally:
            await redis.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    "trouble",
    [
        lambda world: setting(world, "maxmemory", "1"),
        lambda world: setting(world, "min-replicas-to-write", "1"),
        read_only,
    ],
    ids=["out of memory", "without its replicas", "read-only"],
)
async def test_redis_that_takes_nothing_is_told_and_waited_for(world: World, trouble: Any) -> None:
    placed = await world.place(3)
    async with trouble(world):

        async def refused() -> bool:
            status, answer = await world.client._ask(
                "place", "k", "POST", "/api/orders", {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1"}, {}
            )
            assert status == 503, (status, answer)
            assert answer["code"] in {"log_unavailable", "overloaded"}, answer
            assert answer["retryable"] is True
            return True

        await eventually(refused, what="orders are refused in words")
    await world.ends_well(placed)


async def test_backends_of_postgres_ended_in_the_middle_lose_nothing(world: World) -> None:
    placing = asyncio.create_task(world.place(20))
    while not placing.done():
        admin = await asyncpg.connect(world.stack.database_url)
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        await admin.close()
        await asyncio.sleep(0.05)  # a little work must get done between two
    await world.ends_well(await placing)


async def test_orders_flow_without_postgres_and_are_archived_when_it_is_back(world: World) -> None:
    await world.stack.stop("postgres")
    orders = await world.place(20)
    await all_terminal(world.stack, orders)
    await world.stack.start("postgres")
    await world.ends_well(orders)
