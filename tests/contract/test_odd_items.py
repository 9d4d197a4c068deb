"""Work items that nobody in his right mind would write: each is set aside, shown and thrown away; orders go on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from libs.events.envelope import Envelope
from libs.events.ids import new_order_id, partition_of
from libs.events.log import Committed
from libs.events.model import Event, OrderRequested, Status
from libs.events.order import Order
from libs.events.parking import discard
from libs.events.reactions import ROUTER
from libs.events.redis_keys import Keys
from libs.events.redis_log import RedisLog, open_redis_log
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health
from tests.builders import NOW, a_request, route_selected, routing_started, then
from tests.servers import flush_redis
from tests.waiting import eventually

PARTITIONS = 2
LIMITS = WorkerLimits(block_ms=20, claim_every_s=0.05, claim_idle_ms=100, renew_every_s=0.03, retry_cap_s=0.01)
Fields = list[tuple[str | bytes, str | bytes]]

ODD: dict[str, Fields] = {
    "nothing known": [("a", "b")],
    "no text": [(b"\xff\xfe", b"\x80"), ("subject", b"\xc3\x28"), ("state", b"\xff"), ("data", b"\x00")],
    "no number": [("state", '{"version": NaN}'), ("version", "NaN"), ("v", "1e999")],
    "a field twice": [("subject", "a"), ("subject", "b"), ("version", "1"), ("version", "-1")],
    "our own names": [("service", "x"), ("item", "x"), ("reason", "x"), ("deliveries", "x"), ("fingerprint", "")],
    "names of the audit": [("parked", "x"), ("discarded_by", "x"), ("discarded_because", "x")],
    "a partition there is not": [("subject", "zzz")],
    "an order of elsewhere": [("subject", new_order_id(1)), ("state", "{}")],
    "ten megabytes": [("state", "{" * 10_000_000), ("subject", "x" * 100_000)],
    "deep": [("state", "[" * 100_000 + "]" * 100_000)],
    "nothing in it": [("", "")],
}


@pytest.fixture
async def log(redis_url: str) -> AsyncIterator[RedisLog]:
    await asyncio.to_thread(flush_redis, redis_url)
    async with open_redis_log(redis_url, PARTITIONS) as opened:
        await opened.start(create=True)
        yield opened


async def route(_order: Order, event: Envelope) -> Sequence[Event]:
    return [routing_started() if isinstance(event.data, OrderRequested) else route_selected()]


@asynccontextmanager
async def routing(log: RedisLog) -> AsyncIterator[None]:
    stop = asyncio.Event()
    worker = Worker(log, ROUTER, route, consumer="only", health=Health("log"), limits=LIMITS, drain_s=1)
    running = asyncio.create_task(worker.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


@pytest.mark.parametrize("odd", list(ODD))
async def test_it_is_set_aside_shown_and_thrown_away(log: RedisLog, odd: str) -> None:
    flat = [word for pair in ODD[odd] for word in pair]
    await log._redis.send([["XADD", Keys(0).work(ROUTER), "*", *flat]])
    step, made = a_request(PARTITIONS)
    assert isinstance(await log.commit(step), Committed)

    async def routed() -> bool:
        held = await log.find(made.order.id)
        return held is not None and held.order.status is Status.BUILDING

    async with routing(log):
        await eventually(routed, what="the order goes on")
        [parked] = await eventually(log.parked, what="it is set aside")
    assert parked.service == ROUTER
    assert parked.reason
    assert not await log.redrive(parked)
    assert await discard(log, parked, by="mara", reason="nonsense", now=NOW) is None
    [kept] = await log.discarded()
    assert (kept.parked, kept.by, kept.reason) == (parked, "mara", "nonsense")
    assert await log.backlog(ROUTER) == 0


async def test_an_order_whose_beginning_is_gone_is_set_aside(log: RedisLog) -> None:
    step, made = a_request(PARTITIONS)
    assert isinstance(await log.commit(step), Committed)
    [item] = await log.take(ROUTER, "only", 8, 0)
    more, _ = then(made, routing_started(), source=ROUTER, item=item)
    assert isinstance(await log.commit(more), Committed)
    await log._redis.send([["HDEL", Keys(partition_of(made.order.id)).order(made.order.id), "OrderRequested"]])

    async with routing(log):
        [parked] = await eventually(log.parked, what="it is set aside", within_s=20)
    assert parked.order_id == made.order.id
    assert parked.reason == "cannot be decoded: it begins with RoutingStarted"
