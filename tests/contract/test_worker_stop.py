"""A worker that is told to stop does, whatever its connection to Redis is doing at that moment."""

import asyncio
from collections.abc import Sequence

from libs.events.envelope import Envelope
from libs.events.model import Event
from libs.events.order import Order
from libs.events.reactions import ROUTER
from libs.events.redis_log import open_redis_log
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health
from tests.servers import flush_redis

STOPS = 40
# Busy all the time, so that the stop meets a command on its way.
LIMITS = WorkerLimits(block_ms=5, claim_every_s=0.001, renew_every_s=0.001, timers_every_s=0.001)


async def nothing(_order: Order, _event: Envelope) -> Sequence[Event]:
    return []


async def test_a_stop_is_never_swallowed(redis_url: str) -> None:
    await asyncio.to_thread(flush_redis, redis_url)
    for number in range(STOPS):
        async with open_redis_log(redis_url, 2) as log:
            await log.start(create=True)
            stop = asyncio.Event()
            worker = Worker(log, ROUTER, nothing, consumer="only", health=Health("log"), limits=LIMITS)
            running = asyncio.create_task(worker.run(stop))
            await asyncio.sleep(0.001 * number)  # each stop meets another moment
            stop.set()
            ended, _ = await asyncio.wait([running], timeout=60)
            assert ended, f"stop {number} was swallowed"
