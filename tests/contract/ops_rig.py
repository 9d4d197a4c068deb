"""A log for commands that are called as a shell calls them, so outside of any event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from libs.events.redis_log import RedisLog, open_redis_log

PARTITIONS = 4
T = TypeVar("T")


def with_log(redis_url: str, work: Callable[[RedisLog], Awaitable[T]]) -> T:
    """What `work` gives, in an event loop of its own; the log is made where there is none."""

    async def run() -> T:
        async with open_redis_log(redis_url, PARTITIONS) as log:
            await log.start(create=True)
            return await work(log)

    return asyncio.run(run())
