"""The log over Redis Streams (Redis 7.0+ or Valkey)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from libs.events.log import Outcome, Step
from libs.events.reactions import WORKERS
from libs.events.redis_client import READER_TIMEOUT_S, REPLY_TIMEOUT_S, Client, Pipe, connect, translate
from libs.events.redis_commit import GroupCommit
from libs.events.redis_keys import Keys
from libs.events.redis_reads import RedisReads, settle_meta
from libs.events.redis_work import RedisWork

LAYOUT = "1"


class RedisLog(RedisReads, RedisWork):
    """The `EventLog` port. Writes and blocking reads have a client each: a waiting read never delays a commit."""

    def __init__(self, writer: Client, reader: Client, partitions: int) -> None:
        self._reader = reader
        self._pipe = Pipe(writer)
        self._keys = [Keys(partition) for partition in range(partitions)]
        self._claim_cursors: dict[tuple[str, str, int], str] = {}
        self._commits: GroupCommit | None = None
        self._epoch = ""

    async def start(self) -> None:
        """Make what is missing (meta data, groups) and check what is there.

        Raises:
            LogUnavailable: Redis is away.
            LogMismatch: this is not the log we were made for.
        """
        layout = f"{LAYOUT}, {self.partitions} partitions"
        self._epoch = await settle_meta(self._pipe, self._keys, uuid4().hex[:12], layout)
        commands: list[list[Any]] = [
            ["XGROUP", "CREATE", keys.work(service), service, "0", "MKSTREAM"]
            for keys in self._keys
            for service in WORKERS
        ]
        for reply in await self._pipe.send(commands):
            if isinstance(reply, Exception) and not str(reply).startswith("BUSYGROUP"):
                raise translate(reply)
        self._commits = GroupCommit(self._pipe, self._keys, self._epoch)

    @property
    def partitions(self) -> int:
        return len(self._keys)

    @property
    def epoch(self) -> str:
        return self._epoch

    def _claim_state(self) -> dict[tuple[str, str, int], str]:
        return self._claim_cursors

    async def commit(self, step: Step) -> Outcome:
        """See `Commits.commit`."""
        assert self._commits is not None, "start() was not awaited"
        return await self._commits.submit(step)


@asynccontextmanager
async def open_redis_log(url: str, partitions: int) -> AsyncIterator[RedisLog]:
    """The log behind `url`; waits for nothing: call `start()` until it succeeds."""
    writer = connect(url, reply_timeout_s=REPLY_TIMEOUT_S)
    reader = connect(url, reply_timeout_s=READER_TIMEOUT_S)
    async with writer, reader:
        yield RedisLog(writer, reader, partitions)
