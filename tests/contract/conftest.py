"""Fixtures several contract tests share."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from deploy.local.stores import Store
from libs.events.memory_log import MemoryLog
from libs.events.redis_log import RedisLog, open_redis_log
from libs.orders.store import OrderStore, open_store
from tests.contract.notifier_rig import PARTITIONS, Notifier, running
from tests.contract.repair_rig import World, open_world
from tests.servers import flush_redis, fresh_database


@pytest.fixture(params=["memory", "redis", "cluster"])
def log_url(request: pytest.FixtureRequest) -> str:
    """Where to open the log a test is for; "": in memory. Who opens one empties it first."""
    # Each server is started when a test first needs it.
    return "" if request.param == "memory" else str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=["memory", "redis"])
async def notifier(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Notifier]:
    if request.param == "memory":
        async with running(MemoryLog(PARTITIONS)) as made:
            yield made
        return
    async with open_redis_log(redis_url, PARTITIONS) as log:
        await log.start(create=True)
        async with running(log) as made:
            yield made


@pytest.fixture(params=["redis", "cluster"])
def world_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def world(request: pytest.FixtureRequest, world_url: str, database_url: str) -> AsyncIterator[World]:
    async with open_world(world_url, database_url, clustered="cluster" in request.node.callspec.id) as made:
        yield made


@pytest.fixture
async def redis_log(redis_url: str) -> AsyncIterator[RedisLog]:
    """A new log in an empty Redis."""
    await asyncio.to_thread(flush_redis, redis_url)
    async with open_redis_log(redis_url, PARTITIONS) as log:
        await log.start(create=True)
        yield log


@pytest.fixture
async def direct(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that knows nothing of the store; the tables are empty."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("TRUNCATE events, orders, checkpoints")
    yield connection
    await connection.close()


@pytest.fixture
async def store(database_url: str, direct: asyncpg.Connection) -> AsyncIterator[OrderStore]:
    async with open_store(database_url) as opened:
        yield opened


@pytest.fixture
def own_database(postgres_store: Store, database_template: str) -> Iterator[str]:
    """For tests that make or drop tables, which nobody else may miss."""
    with fresh_database(postgres_store.url, database_template) as url:
        yield url
