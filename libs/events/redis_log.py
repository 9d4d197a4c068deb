"""The log over Redis Streams (Redis 7.0+ or Valkey)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from libs.events.errors import LogUnavailable
from libs.events.log import Outcome, Step
from libs.events.redis_commit import GroupCommit
from libs.events.redis_keys import Keys
from libs.events.redis_meta import check_log, create_log
from libs.events.redis_nodes import Nodes
from libs.events.redis_reads import FORGET_AFTER_S, RedisReads
from libs.events.redis_repair import RedisRepair
from libs.events.redis_underway import Underway
from libs.events.redis_upkeep import RedisUpkeep
from libs.events.redis_work import RedisWork
from libs.events.repair import LogRepair, layout_of


class RedisLog(RedisReads, RedisWork, RedisUpkeep):
    """The `EventLog` and `Upkeep` ports.

    Writes and blocking reads have connections of their own: a waiting read never delays a commit.
    """

    def __init__(self, redis: Nodes, partitions: int) -> None:
        self._redis = redis
        self._reading, self._taking = Underway(FORGET_AFTER_S), Underway()
        self._keys = [Keys(partition) for partition in range(partitions)]
        self._claim_cursors: dict[tuple[str, str, int], str] = {}
        self._torn: set[tuple[str, ...]] = set()
        self._commits: GroupCommit | None = None
        self._epoch = ""

    async def start(self, *, create: bool = False) -> None:
        """Check what is there, and know it from now on.

        `create` makes a log where there is none: only for callers that know that no archive has one either.

        Raises:
            LogUnavailable: Redis is away, holds no log yet, or one that is still being checked.
            LogMismatch: this is not the log we were made for.
        """
        layout = layout_of(self.partitions)
        if create:
            await create_log(self._redis, self._keys, layout)
        self._epoch = await check_log(self._redis, self._keys, layout)
        self._commits = GroupCommit(self._redis, self._keys, self._epoch)

    @property
    def partitions(self) -> int:
        return len(self._keys)

    @property
    def repair(self) -> LogRepair:
        """For the one that checks and repairs the log."""
        return RedisRepair(self._redis, self._keys)

    @property
    def epoch(self) -> str:
        return self._epoch

    async def close(self) -> None:
        """Wait for nothing more."""
        await self._reading.close()
        await self._taking.close()

    async def commit(self, step: Step) -> Outcome:
        """See `Commits.commit`."""
        assert self._commits is not None, "start() was not awaited"
        return await self._commits.submit(step)

    async def commit_many(self, steps: Sequence[Step]) -> list[Outcome | Exception]:
        """See `Commits.commit_many`."""
        assert self._commits is not None, "start() was not awaited"
        waiting: list[asyncio.Future[Outcome] | LogUnavailable] = []
        for step in steps:
            try:
                waiting.append(self._commits.submit(step))
            except LogUnavailable as full:  # what was submitted before it is on its way all the same
                waiting.append(full)
        if submitted := [done for done in waiting if not isinstance(done, LogUnavailable)]:
            await asyncio.wait(submitted)
        return [done if isinstance(done, LogUnavailable) else _result(done) for done in waiting]


def _result(done: asyncio.Future[Outcome]) -> Outcome | Exception:
    error = done.exception()
    assert error is None or isinstance(error, Exception)
    return error or done.result()


@asynccontextmanager
async def open_redis_log(url: str, partitions: int) -> AsyncIterator[RedisLog]:
    """The log behind `url`; waits for nothing: call `start()` until it succeeds."""
    redis = Nodes(url)
    log = RedisLog(redis, partitions)
    try:
        yield log
    finally:
        await log.close()
        await redis.close()
