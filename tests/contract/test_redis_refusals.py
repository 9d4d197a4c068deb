"""A Redis that answers, but not what was asked: nothing was written, and that is what everybody is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha1

import pytest

from libs.events import redis_commit
from libs.events.errors import LogUnavailable
from libs.events.ids import START
from libs.events.log import Committed
from libs.events.redis_commit import Script
from libs.events.redis_log import open_redis_log
from tests.builders import a_request
from tests.contract.http_gateway import gateway
from tests.servers import flush_redis

REFUSALS = [
    "LOADING Redis is loading the dataset in memory",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY You can't write against a read only replica.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "NOREPLICAS Not enough good replicas to write.",
    "CLUSTERDOWN The cluster is down",
]
# Said to whoever connects.
AT_THE_DOOR = [
    "NOAUTH Authentication required.",
    "ERR max number of clients reached",
]


def by_code(refusals: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("refusal", refusals, ids=lambda text: text.split()[0])


@asynccontextmanager
async def a_redis_that_says(refusal: str) -> AsyncIterator[str]:
    """A server with one answer to every command; gives its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            for _ in range(int(head[1:])):
                size = int((await reader.readline())[1:])
                await reader.readexactly(size + 2)
            writer.write(f"-{refusal}\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"redis://127.0.0.1:{port}/0"


@by_code([*REFUSALS, *AT_THE_DOOR])
async def test_a_log_that_cannot_be_opened_says_why(refusal: str) -> None:
    async with a_redis_that_says(refusal) as url, open_redis_log(url, 1) as log:
        with pytest.raises(LogUnavailable, match=" ".join(refusal.split()[1:4])):
            await log.start()


@by_code(REFUSALS)
async def test_a_write_refused_is_nothing_written_and_a_503(
    redis_url: str, refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(flush_redis, redis_url)
    async with open_redis_log(redis_url, 1) as log, gateway(log=log) as client:
        await log.start(create=True)
        # Redis itself can hardly be brought to say most of these; from the wire on everything is real.
        text = f'return redis.error_reply("{refusal}")'
        script = Script.__new__(Script)
        script.text, script.digest = text, sha1(text.encode(), usedforsecurity=False).hexdigest()
        with monkeypatch.context() as patch:
            patch.setattr(redis_commit, "COMMIT", script)
            with pytest.raises(LogUnavailable, match=" ".join(refusal.split()[1:4])):
                await log.commit(a_request(1)[0])
            refused = await client.post()
        assert (refused.status, refused.code) == (503, "log_unavailable")
        assert "Retry-After" in refused.headers
        assert await log.read({0: START}, 10, 0) == []
        assert isinstance(await log.commit(a_request(1)[0]), Committed)
