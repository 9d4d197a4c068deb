"""A Redis that takes no more writes is the one that must be trimmed."""

import asyncio
import time
from contextlib import suppress

import orjson
import pytest
from structlog.testing import capture_logs

from libs.events import redis_upkeep
from libs.events.errors import LogReplaced, LogUnavailable
from libs.events.ids import START
from libs.events.log import Committed
from libs.orders.store import OrderStore
from libs.service.health import Health
from services.projector import janitor
from services.projector.handlers import Projector
from services.projector.janitor import Janitor
from services.projector.repair import Repair
from tests.builders import a_request
from tests.contract.event_log_rig import new_redis_log
from tests.contract.projector_rig import PARTITIONS
from tests.waiting import eventually

NOTHING_S = -1.0  # no entry is kept for its age


@pytest.mark.parametrize("restarted", [False, True])
async def test_it_is_trimmed_and_takes_orders_again(
    redis_url: str, store: OrderStore, monkeypatch: pytest.MonkeyPatch, *, restarted: bool
) -> None:
    monkeypatch.setattr(janitor, "SWEEP_EVERY_S", 0.3)
    for module in (janitor, redis_upkeep):
        monkeypatch.setattr(module, "READER_EXPIRES_S", 1)
    stop = asyncio.Event()
    async with new_redis_log(redis_url, PARTITIONS) as log:
        await log.register_reader("slow", dict.fromkeys(range(PARTITIONS), START))
        await log.commit_many([a_request(PARTITIONS, f"user-{number % 50}")[0] for number in range(3_000)])
        if restarted:
            await log._redis.send([["HSET", keys.meta, "run", "of before"] for keys in log._keys])
        used = int((await log._redis.ask("INFO", "memory")).partition("used_memory:")[2].split()[0])
        await log._redis.send([["CONFIG", "SET", "maxmemory", used - 100_000]])

        async def an_order_comes_in() -> bool:
            with suppress(LogUnavailable, LogReplaced):
                if restarted:
                    await log.start()
                return isinstance(await log.commit(a_request(PARTITIONS)[0]), Committed)
            return False

        try:
            assert not await an_order_comes_in()
            projection = store.projection()
            sweeper = Janitor(log, keep_s=NOTHING_S, memory_max_bytes=2**30)
            projector = Projector(log, projection, Health("redis", "postgres"), Repair(log, store, projection), sweeper)
            running = asyncio.create_task(projector.run(stop))
            await eventually(an_order_comes_in, what="an order comes in again", within_s=25)
            stop.set()
            await running
        finally:
            await log._redis.send([["CONFIG", "SET", "maxmemory", 0]])


async def test_who_registered_by_a_clock_that_was_set_back_does_not_keep_it_full(redis_url: str) -> None:
    async with new_redis_log(redis_url, 1) as log:
        await log.commit_many([a_request(1)[0] for _ in range(300)])
        in_an_hour = f'{{"at":"{START}","seen":{time.time() + 3_600:.0f}}}'
        await log._redis.send([["HSET", log._keys[0].readers, "gone", in_an_hour]])
        await log._redis.send([["CONFIG", "SET", "maxmemory", 1]])
        try:
            assert await log.trim(0, await log.tip(0)) == 0
            [said] = await log._redis.ask("HVALS", log._keys[0].readers)
            assert orjson.loads(said)["seen"] <= time.time(), "it is silent from now on, and then nothing is held"
        finally:
            await log._redis.send([["CONFIG", "SET", "maxmemory", 0]])


async def test_one_that_allows_itself_less_than_we_do_is_full_the_sooner(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "RESUME_WINDOW_S", NOTHING_S)
    async with new_redis_log(redis_url, 1) as log:
        await log.commit_many([a_request(1)[0] for _ in range(1_000)])
        used = (await log.pressure()).memory_bytes
        await log._redis.send([["CONFIG", "SET", "maxmemory", int(used / 0.8)]])
        try:
            await Janitor(log, keep_s=3_600, memory_max_bytes=10**15).sweep({0: await log.tip(0)})
            assert await log._redis.ask("XLEN", log._keys[0].log) <= 100
        finally:
            await log._redis.send([["CONFIG", "SET", "maxmemory", 0]])


async def test_one_that_drops_keys_when_it_is_full_is_warned_of_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many are set up that are hired: it drops the keys of requests first, which are two orders then."""
    monkeypatch.setattr(janitor, "SWEEP_EVERY_S", 0)
    async with new_redis_log(redis_url, 1) as log:
        sweeper = Janitor(log, keep_s=3_600, memory_max_bytes=10**15)
        with capture_logs() as said:
            await sweeper.sweep({})
            await log._redis.send([["CONFIG", "SET", "maxmemory", 10**9, "maxmemory-policy", "volatile-lru"]])
            try:
                await sweeper.sweep({})
                await sweeper.sweep({})
            finally:
                await log._redis.send([["CONFIG", "SET", "maxmemory", 0, "maxmemory-policy", "noeviction"]])
    assert [line["policy"] for line in said if line["log_level"] == "warning"] == ["volatile-lru"]
