"""A log of either kind, new and empty, and what tests of its promises do with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libs.events.ids import START, Position
from libs.events.log import Committed, EventLog, Snapshot
from libs.events.memory_log import MemoryLog
from libs.events.redis_log import RedisLog, open_redis_log
from libs.events.work import Item
from tests.builders import a_request
from tests.waiting import eventually

PARTITIONS = 4


@asynccontextmanager
async def new_log(log_url: str, partitions: int = PARTITIONS) -> AsyncIterator[MemoryLog | RedisLog]:
    if not log_url:
        yield MemoryLog(partitions)
        return
    async with new_redis_log(log_url, partitions) as redis_log:
        yield redis_log


@asynccontextmanager
async def new_redis_log(redis_url: str, partitions: int = PARTITIONS) -> AsyncIterator[RedisLog]:
    async with open_redis_log(redis_url, partitions) as redis_log:
        await redis_log._redis.send([["FLUSHALL"]])
        await redis_log.start(create=True)
        yield redis_log


async def requested(log: EventLog, user: str = "user-1") -> Snapshot:
    step, then_ = a_request(log.partitions, user)
    assert isinstance(await log.commit(step), Committed)
    return then_


async def one_item(log: EventLog, service: str = "router", consumer: str = "a") -> Item:
    items = await eventually(lambda: log.take(service, consumer, 16, 100), what=f"an item for {service}")
    assert len(items) == 1
    return items[0]


async def everything(log: EventLog) -> list[tuple[int, Position, str]]:
    entries = await log.read(dict.fromkeys(range(log.partitions), START), 1_000, 0)
    return [(entry.partition, entry.at, entry.fields["id"]) for entry in entries]
