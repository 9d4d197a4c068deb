"""Five minutes without a log, in virtual time: nobody hammers, and they do not all come back at once."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from libs.events.envelope import Envelope
from libs.events.errors import LogUnavailable
from libs.events.memory_log import MemoryLog
from libs.events.model import Event
from libs.events.order import Order
from libs.events.reactions import ROUTER
from libs.events.work import Item
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health
from tests.simulation.loop import simulate

AWAY_S = 300.0
WORKERS = 20
LIMITS = WorkerLimits()


class AwayLog(MemoryLog):
    """Away for a while, and remembers who asked when."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked: dict[str, list[float]] = {}

    async def take_pending(self, service: str, consumer: str) -> list[Item]:
        now = asyncio.get_running_loop().time()
        self.asked.setdefault(consumer, []).append(now)
        if now < AWAY_S:
            raise LogUnavailable("away")
        return await super().take_pending(service, consumer)


async def nothing(_order: Order, _event: Envelope) -> Sequence[Event]:
    return []


async def storm() -> dict[str, list[float]]:
    log, stop = AwayLog(), asyncio.Event()
    workers = [
        Worker(log, ROUTER, nothing, consumer=f"w{n}", health=Health("log"), limits=LIMITS) for n in range(WORKERS)
    ]
    running = [asyncio.create_task(worker.run(stop)) for worker in workers]
    await asyncio.sleep(AWAY_S + 2 * LIMITS.retry_cap_s)
    stop.set()
    await asyncio.gather(*running)
    return log.asked


def test_a_log_that_is_away_is_asked_now_and_then_by_each_at_another_time() -> None:
    asked = simulate(storm, seed=1)
    assert len(asked) == WORKERS
    # The pause doubles up to its cap, and no pause is shorter than half of that.
    at_least_s = LIMITS.retry_cap_s / 2
    doubling = 8
    for times in asked.values():
        assert len([at for at in times if at < AWAY_S]) <= AWAY_S / at_least_s + doubling
    back = sorted(times[-1] for times in asked.values())
    assert back[-1] - AWAY_S <= LIMITS.retry_cap_s, "nobody stays away for longer than the cap"
    gaps = [later - sooner for sooner, later in pairwise(back)]
    assert back[-1] - back[0] > at_least_s / 2, "they come back spread over time"
    assert max(gaps) < LIMITS.retry_cap_s / 2
    assert len({round(at, 3) for at in back}) == WORKERS
