"""Clocks that go back, stand still or differ by an hour: the order of events does not depend on them."""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from types import SimpleNamespace

import pytest

from libs.events import alone
from libs.events.alone import Handle
from libs.events.commands import follow
from libs.events.envelope import Envelope
from libs.events.ids import START
from libs.events.log import Committed, Entry, EventLog
from libs.events.memory_log import MemoryLog
from libs.events.model import AttemptFailed, Event, OrderRequested, RouteSelected, RoutingStarted, TxSubmitted
from libs.events.order import Order
from libs.events.reactions import EXECUTOR, ROUTER
from libs.events.redis_keys import Keys
from libs.events.redis_log import open_redis_log
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health
from services.projector import janitor
from services.projector.janitor import Janitor
from tests.builders import a_request, attempt_failed, route_selected, routing_started, tx_confirmed, tx_submitted
from tests.servers import flush_redis
from tests.waiting import eventually

HOUR_MS = 3_600_000
ORDERS = 20
LIMITS = WorkerLimits(block_ms=20, timers_every_s=0.01, claim_every_s=60)
TYPES = ["OrderRequested", "RoutingStarted", "AttemptFailed", "RoutingStarted", "RouteSelected", "TxSubmitted"]


async def route(_order: Order, event: Envelope) -> Sequence[Event]:
    match event.data:
        case OrderRequested():
            return [routing_started()]
        case RoutingStarted(attempt=1):
            return [attempt_failed(delay_ms=1)]
        case AttemptFailed():
            return [routing_started(2)]
        case _:
            return [route_selected(2)]


async def execute(_order: Order, event: Envelope) -> Sequence[Event]:
    match event.data:
        case RouteSelected():
            return [tx_submitted(2)]
        case TxSubmitted():
            return [tx_confirmed(2)]
        case _:
            raise AssertionError(event.type)


class Unsteady(datetime):
    """A process' clock that is off by up to an hour, each time by something else."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Unsteady":
        there = datetime.now(tz) + timedelta(seconds=random.uniform(-3_600, 3_600))
        return cls.fromtimestamp(there.timestamp(), tz or UTC)


async def worked(log: EventLog) -> list[Entry]:
    """Every order is taken to its end; gives the log."""
    stop = asyncio.Event()
    services: list[tuple[str, Handle]] = [(ROUTER, route), (EXECUTOR, execute)]
    running = [
        asyncio.create_task(
            Worker(log, name, handle, consumer="only", health=Health("log"), limits=LIMITS, drain_s=1).run(stop)
        )
        for name, handle in services
    ]
    for number in range(ORDERS):
        step, _ = a_request(log.partitions, f"user-{number}")
        assert isinstance(await log.commit(step), Committed)

    async def whole() -> list[Entry]:
        entries = await log.read(dict.fromkeys(range(log.partitions), START), 10_000, 0)
        return entries if len(entries) == ORDERS * (len(TYPES) + 1) else []

    try:
        return await eventually(whole, what="every order ends")
    finally:
        stop.set()
        await asyncio.gather(*running)


def in_order(entries: Sequence[Entry], partitions: int) -> None:
    for partition in range(partitions):
        places = [entry.at for entry in entries if entry.partition == partition]
        assert [at.position for at in places] == list(range(1, len(places) + 1))
        assert all(sooner.ms <= later.ms for sooner, later in pairwise(places))
    for order in {entry.fields["subject"] for entry in entries}:
        assert [e.fields["type"] for e in entries if e.fields["subject"] == order] == [*TYPES, "TxConfirmed"]


@pytest.mark.parametrize("kind", ["jumps", "frozen", "back an hour"])
async def test_with_the_clock_of_the_log(kind: str) -> None:
    began_ms, asked = time.time_ns() // 1_000_000, 0

    def clock_ms() -> int:
        nonlocal asked
        asked += 1
        match kind:
            case "jumps":
                return began_ms + asked + random.randrange(-HOUR_MS, HOUR_MS)
            case "frozen":
                # A timer is due a moment later, and so never: a frozen clock that is mended.
                return began_ms if asked < 500 else time.time_ns() // 1_000_000
            case _:
                # Before anybody waits: what waits already waits as much longer.
                return began_ms + asked - (HOUR_MS if asked > 5 else 0)

    log = MemoryLog(2, clock_ms)
    in_order(await worked(log), 2)


async def test_with_the_clocks_of_the_services(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setattr(alone, "datetime", Unsteady)
    await asyncio.to_thread(flush_redis, redis_url)
    async with open_redis_log(redis_url, 2) as log:
        await log.start(create=True)
        in_order(await worked(log), 2)


async def test_a_redis_whose_clock_went_back_goes_on_from_where_it_was(redis_url: str) -> None:
    await asyncio.to_thread(flush_redis, redis_url)
    async with open_redis_log(redis_url, 2) as log:
        await log.start(create=True)
        ahead_ms = time.time_ns() // 1_000_000 + HOUR_MS
        await log._redis.send([["HSET", Keys(partition).meta, "ms", ahead_ms] for partition in range(2)])
        entries = await worked(log)
        in_order(entries, 2)
        assert {entry.at.ms for entry in entries} == {ahead_ms}, "no time before the last one"


async def test_a_pause_is_counted_by_redis_whatever_the_service_thinks(redis_url: str) -> None:
    await asyncio.to_thread(flush_redis, redis_url)
    async with open_redis_log(redis_url, 1) as log:
        await log.start(create=True)
        step, made = a_request(1)
        await log.commit(step)
        [item] = await log.take(ROUTER, "a", 1, 0)
        failed = attempt_failed(delay_ms=HOUR_MS).model_copy(
            update={"retry_at": datetime.now(UTC) - timedelta(hours=5)}
        )
        step, _ = follow(made, [failed], source=ROUTER, now=datetime.now(UTC), item=item)
        assert isinstance(await log.commit(step), Committed)
        assert await log.move_due() == 0
        ((seconds, _), (_, due_ms)) = await log._redis.send([["TIME"], ["ZRANGE", Keys(0).timers, 0, -1, "WITHSCORES"]])
        assert int(due_ms) - int(seconds) * 1_000 > HOUR_MS - 60_000


async def test_what_was_written_before_the_clock_went_back_leaves_the_log_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Entries have no time before the last one's: until the clock is there again, all of them look new."""
    now_s, back_s = 100_000, 0
    monkeypatch.setattr(janitor, "time", SimpleNamespace(monotonic=lambda: float(now_s)))
    log = MemoryLog(1, lambda: (now_s - back_s) * 1_000)
    sweeper = Janitor(log, keep_s=60, memory_max_bytes=10**15)
    first: list[int] = []
    for number in range(4):
        for _ in range(3):
            assert isinstance(await log.commit(a_request(1)[0]), Committed)
        await sweeper.sweep({0: await log.tip(0)})
        first.append(log._parts[0].first)
        now_s, back_s = now_s + 40, 3_600 if number else 0
    assert first == [1, 1, 3, 6], "what was archived a minute ago goes"
