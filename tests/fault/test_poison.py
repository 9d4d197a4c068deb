"""One order that cannot be handled: only it waits, its partition moves; a redrive puts its one item back."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libs.events.ids import partition_of
from libs.events.log import Committed
from libs.events.model import OrderRequested, Status
from libs.events.parked import Parked
from libs.events.reactions import NEXT_ACTOR, ROUTER, STATUS_AFTER
from libs.events.redis_keys import Keys
from libs.events.redis_log import RedisLog, open_redis_log
from tests.builders import a_request, an_order_requested
from tests.fault.poisonous import LIMITS
from tests.servers import flush_redis
from tests.waiting import eventually

PARTITIONS = 2
HEALTHY = 30
LIVES_MAX = 12  # a process that is killed more often is not getting anywhere


@pytest.fixture
async def log(redis_url: str) -> AsyncIterator[RedisLog]:
    await asyncio.to_thread(flush_redis, redis_url)
    async with open_redis_log(redis_url, PARTITIONS) as opened:
        await opened.start(create=True)
        yield opened


@asynccontextmanager
async def router(redis_url: str, mode: str, poison: str = "") -> AsyncIterator[None]:
    """The service under a supervisor: started again whenever it is killed."""
    environment = {**os.environ, "REDIS_URL": redis_url, "PARTITIONS": str(PARTITIONS)}
    command = (sys.executable, "-m", "tests.fault.poisonous", mode, poison)
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    lives = 1

    async def supervise() -> None:
        nonlocal process, lives
        while await process.wait() == -signal.SIGKILL:
            lives += 1
            assert lives <= LIVES_MAX, "killed again and again"
            process = await asyncio.create_subprocess_exec(*command, env=environment)

    supervising = asyncio.create_task(supervise())
    try:
        yield
        process.terminate()
        await supervising
    finally:
        supervising.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def orders(log: RedisLog, count: int) -> list[str]:
    """Orders of one user: one partition."""
    made: list[str] = []
    for _ in range(count):
        step, now = a_request(PARTITIONS, "user-1")
        assert isinstance(await log.commit(step), Committed)
        made.append(now.order.id)
    return made


async def routed(log: RedisLog, order_ids: list[str]) -> bool:
    found = await log.find_many(order_ids)
    return all(held.order.status is Status.BUILDING for held in found.values()) and len(found) == len(order_ids)


async def only_it_waits(log: RedisLog, poison: str, healthy: list[str]) -> Parked:
    await eventually(lambda: routed(log, healthy), what="all others are routed")
    await eventually(log.parked, what="it is parked")
    await eventually(lambda: nothing_waits(log), what="no work is left")
    [parked] = await log.parked()
    assert parked.order_id == poison
    return parked


async def nothing_waits(log: RedisLog) -> bool:
    return await log.backlog(ROUTER) == 0


async def put_back_once(log: RedisLog, redis_url: str, parked: Parked) -> None:
    """A redrive moves one item, no fact and no reader; then a mended release goes on with the order."""
    partition = partition_of(parked.order_id)
    await log.register_reader("projector", {partition: await log.tip(partition)})
    keys = Keys(partition)
    look = [["HGETALL", keys.readers], ["HGETALL", keys.meta], ["XINFO", "STREAM", keys.log]]
    before = await log._redis.send(look)
    assert await log.redrive(parked)
    assert not await log.redrive(parked)
    assert await log._redis.send(look) == before
    assert await log.backlog(ROUTER) == 1
    async with router(redis_url, "none"):
        await eventually(lambda: routed(log, [parked.order_id]), what="it is routed")
    assert await log.parked() == []


@pytest.mark.parametrize(
    ("mode", "why"), [("raise", "RuntimeError: cannot bear it"), ("hang", "TimeoutError"), ("kill", "never finished")]
)
async def test_a_handler_that_cannot_bear_one_order(log: RedisLog, redis_url: str, mode: str, why: str) -> None:
    before, [poison], after = await orders(log, HEALTHY), await orders(log, 1), await orders(log, HEALTHY)
    async with router(redis_url, mode, poison):
        parked = await only_it_waits(log, poison, before + after)
    assert why in parked.reason
    assert parked.deliveries == LIMITS.deliveries_max
    assert len(parked.fingerprint) == 16
    await put_back_once(log, redis_url, parked)


async def test_an_item_that_cannot_be_decoded(log: RedisLog, redis_url: str) -> None:
    [poison] = await orders(log, 1)
    order = Keys(partition_of(poison)).order(poison)
    [whole] = await log._redis.send([["HGET", order, "OrderRequested"]])
    work = Keys(partition_of(poison)).work(ROUTER)
    [[[item_id, _]]] = await log._redis.send([["XRANGE", work, "-", "+"]])
    await log._redis.send([["XDEL", work, item_id], ["XADD", work, "*", "subject", poison, "version", "1"]])
    await log._redis.send([["HSET", order, "OrderRequested", "\0"]])
    healthy = await orders(log, HEALTHY)
    async with router(redis_url, "none"):
        parked = await only_it_waits(log, poison, healthy)
    assert "cannot be decoded" in parked.reason
    await log._redis.send([["HSET", order, "OrderRequested", whole]])
    await put_back_once(log, redis_url, parked)


async def test_an_event_of_a_newer_schema(log: RedisLog, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    newer: type[OrderRequested] = type("OrderRequested", (OrderRequested,), {"SCHEMA_VERSION": 2})
    monkeypatch.setitem(NEXT_ACTOR, newer, ROUTER)
    monkeypatch.setitem(STATUS_AFTER, newer, Status.PENDING)
    step, now = a_request(PARTITIONS, "user-1")
    event = step.events[0].model_copy(update={"v": 2, "data": newer.model_validate(an_order_requested().model_dump())})
    newer_step = type(step)(step.order_id, step.user, 0, (event,), step.order)
    assert isinstance(await log.commit(newer_step), Committed)
    healthy = await orders(log, HEALTHY)
    async with router(redis_url, "none"):
        parked = await only_it_waits(log, now.order.id, healthy)
    assert "this release does not know" in parked.reason
    assert parked.deliveries == 1, "no use in trying again"


def test_the_limits_let_a_hang_end_before_another_may_take_the_item() -> None:
    assert LIMITS.handle_seconds_max * 1_000 < LIMITS.claim_idle_ms
