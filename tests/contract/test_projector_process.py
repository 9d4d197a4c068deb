"""The projector as a process: its exit code tells the supervisor whether it was asked to stop or had to."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from libs.events.redis_log import RedisLog, open_redis_log
from libs.orders.store import OrderStore
from tests.builders import a_request, routing_started, then
from tests.servers import flush_redis
from tests.waiting import eventually

PARTITIONS = 4


@pytest.fixture
async def log(redis_url: str) -> AsyncIterator[RedisLog]:
    await asyncio.to_thread(flush_redis, redis_url)
    async with open_redis_log(redis_url, PARTITIONS) as opened:
        await opened.start(create=True)
        yield opened


@asynccontextmanager
async def projector(redis_url: str, database_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.projector",
        env={
            **os.environ,
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "PARTITIONS": str(PARTITIONS),
            "LOG_FORMAT": "json",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def commit_an_order(log: RedisLog) -> str:
    step, snapshot = a_request(PARTITIONS)
    await log.commit(step)
    step, _ = then(snapshot, routing_started())
    await log.commit(step)
    return snapshot.order.id


async def projected(store: OrderStore, order_id: str) -> bool:
    order = await store.get(order_id)
    return order is not None and order.version == 2


async def output(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    return (await process.stderr.read()).decode()


async def lines_until(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while text not in (await process.stderr.readline()).decode():
            pass


async def test_a_second_one_stands_by_and_takes_over_from_one_that_is_killed(
    redis_url: str, database_url: str, log: RedisLog, store: OrderStore
) -> None:
    async with projector(redis_url, database_url) as first, projector(redis_url, database_url) as second:
        at_work, waits = await _who_works_and_who_waits(first, second)
        order_id = await commit_an_order(log)
        await eventually(lambda: projected(store, order_id), what="the order is in Postgres")
        at_work.kill()
        later = await commit_an_order(log)
        await eventually(lambda: projected(store, later), what="the other one projects")
        waits.send_signal(signal.SIGTERM)
        assert await waits.wait() == 0


async def test_one_that_stands_by_ends_when_asked(
    redis_url: str, database_url: str, log: RedisLog, store: OrderStore
) -> None:
    async with projector(redis_url, database_url) as first, projector(redis_url, database_url) as second:
        at_work, waits = await _who_works_and_who_waits(first, second)
        waits.send_signal(signal.SIGTERM)
        assert await waits.wait() == 0
        order_id = await commit_an_order(log)
        await eventually(lambda: projected(store, order_id), what="the order is in Postgres")
        assert at_work.returncode is None


async def _who_works_and_who_waits(
    *both: asyncio.subprocess.Process,
) -> tuple[asyncio.subprocess.Process, asyncio.subprocess.Process]:
    waiting = [asyncio.create_task(lines_until(process, "standing by")) for process in both]
    done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    for task in left:
        task.cancel()
    return (both[0], both[1]) if waiting[1] in done else (both[1], both[0])


async def test_asked_to_stop_it_ends_with_0(
    redis_url: str, database_url: str, log: RedisLog, store: OrderStore
) -> None:
    order_id = await commit_an_order(log)
    async with projector(redis_url, database_url) as process:
        await eventually(lambda: projected(store, order_id), what="the order is in Postgres")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        assert '"event":"stopped"' in await output(process)


async def test_killed_between_two_batches_it_loses_nothing(
    redis_url: str, database_url: str, log: RedisLog, store: OrderStore
) -> None:
    for _ in range(2):
        order_id = await commit_an_order(log)
        async with projector(redis_url, database_url) as process:
            await eventually(partial(projected, store, order_id), what="the order is in Postgres")
            process.kill()
            await process.wait()


async def test_when_it_must_stop_it_says_why_and_ends_with_1(
    redis_url: str, database_url: str, log: RedisLog, store: OrderStore
) -> None:
    order_id = await commit_an_order(log)
    async with projector(redis_url, database_url):
        await eventually(lambda: projected(store, order_id), what="the order is in Postgres")
    await asyncio.to_thread(flush_redis, redis_url)
    await log.start(create=True)
    await commit_an_order(log)  # of the same user: it takes the first one's positions
    async with projector(redis_url, database_url) as process:
        said = await output(process)
        assert await process.wait() == 1
    assert "projection stopped" in said
    assert "they are not of one log. Nothing was written" in said
    assert "Traceback" not in said
