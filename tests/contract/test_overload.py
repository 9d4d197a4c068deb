"""New orders are refused while there is more work than is done, or no room in Redis, and taken again."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from libs.events.memory_log import MemoryLog
from libs.events.redis_log import RedisLog
from services.gateway.overload import Overload
from tests.contract.event_log_rig import PARTITIONS, new_log, new_redis_log, requested
from tests.contract.http_gateway import ORDER, gateway

AnyLog = MemoryLog | RedisLog


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[AnyLog]:
    async with new_log(log_url) as made:
        yield made


async def test_only_work_nobody_took_presses(log: AnyLog) -> None:
    assert (await log.pressure()).waiting_s == 0
    for _ in range(3):
        await requested(log)
    before = (await log.pressure()).waiting_s
    await until_older(log, before)
    taken = await log.take("router", "a", 100, 0)
    assert len(taken) == 3
    assert (await log.pressure()).waiting_s == 0


async def until_older(log: AnyLog, before: float) -> None:
    for _ in range(10_000):
        if (await log.pressure()).waiting_s > before:
            return
    raise AssertionError("waiting work does not age")


async def test_orders_are_refused_while_work_waits_and_taken_again(log: AnyLog) -> None:
    overload = Overload(log, wait_s_max=0.0001, memory_max_bytes=10**15)
    async with gateway(log=cast("Any", log), overload=overload) as client:
        assert (await client.post()).status == 202
        await until_older(log, 0.001)
        await overload.measure()
        refused = await client.post()
        assert (refused.code, refused.headers["Retry-After"]) == ("overloaded", "5")
        assert (await client.get("/api/orders")).status == 200
        for partition in range(PARTITIONS):
            assert (await log.tip(partition)).position <= 1, "nothing was written"
        await log.take("router", "a", 100, 0)
        await overload.measure()
        assert (await client.post()).status == 202


async def test_orders_are_refused_while_redis_is_full(redis_url: str) -> None:
    async with new_redis_log(redis_url) as log:
        overload = Overload(log, wait_s_max=60, memory_max_bytes=1)
        await overload.measure()
        async with gateway(log=cast("Any", log), overload=overload) as client:
            assert (await client.post()).code == "overloaded"
            used = (await log.pressure()).memory_bytes
            overload._memory_max_bytes = 10**15
            await overload.measure()
            assert (await client.post()).status == 202
            # What Redis itself allows counts too.
            await log._redis.send([["CONFIG", "SET", "maxmemory", int(used * 1.05)]])
            try:
                await overload.measure()
                assert (await client.post()).code == "overloaded"
            finally:
                await log._redis.send([["CONFIG", "SET", "maxmemory", 0]])


async def test_orders_that_wait_leave_room_for_those_that_do_not(redis_url: str) -> None:
    waiting = {**ORDER, "limitPrice": "1000"}
    async with new_redis_log(redis_url) as log:
        overload = Overload(log, wait_s_max=60, memory_max_bytes=10**15)
        async with gateway(log=cast("Any", log), overload=overload) as client:
            await overload.measure()
            first = await client.post(waiting, Idempotency_Key="k")
            assert first.status == 202
            overload._memory_max_bytes = int((await log.pressure()).memory_bytes * 1.1)
            await overload.measure()
            refused = await client.post(waiting)
            assert (refused.status, refused.code) == (503, "overloaded")
            assert (await client.post()).status == 202
            batch = await client.post({"orders": [waiting, ORDER]}, "/api/orders/batch")
            assert [one["status"] for one in batch.body["results"]] == [503, 202]
            again = await client.post(waiting, Idempotency_Key="k")  # its first answer may have been lost
            assert (again.status, again.body["orderId"]) == (202, first.body["orderId"])
            overload._memory_max_bytes = 10**15
            await overload.measure()
            assert (await client.post(waiting)).status == 202
