"""What one worker process can do where nobody outside keeps it waiting: `python -m tests.bench.workers SERVICE COUNT`.

The real runtime, handlers and adapters on a real Redis; venues and chain answer in the same process, and what they take
there is left out. A step is one write of the log for one order: the router makes one per order, the executor two.
"""

import asyncio
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import orjson
import psutil  # type: ignore[import-untyped]

from libs.events.log import Committed, Outcome, Step
from libs.events.reactions import EXECUTOR, ROUTER, next_actor
from libs.events.redis_log import RedisLog, open_redis_log
from libs.events.worker import Worker
from libs.events.worker_ports import WorkerLog
from libs.service.health import Health
from libs.service.lifecycle import run
from libs.service.settings import Settings
from tests.bench.figures import Result, per_second
from tests.bench.made import PARTITIONS, WAVE, Makers, makers, requested_order
from tests.bench.target import own_redis

WITHIN_S = 60
FILL_WITHIN_S = 120
now = time.perf_counter


class CountingLog:
    """The log, and how many steps went into it; `done` when so many orders have nothing left for the service."""

    def __init__(self, log: RedisLog, service: str, orders: int) -> None:
        self._log, self._service, self._left = log, service, orders
        self.steps = self.events = 0
        self.done = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def commit(self, step: Step) -> Outcome:
        outcome = await self._log.commit(step)
        self._count(step, outcome)
        return outcome

    async def commit_many(self, steps: Sequence[Step]) -> list[Outcome | Exception]:
        outcomes = await self._log.commit_many(steps)
        for step, outcome in zip(steps, outcomes, strict=True):
            self._count(step, outcome)
        return outcomes

    def _count(self, step: Step, outcome: Outcome | Exception) -> None:
        if not isinstance(outcome, Committed) or not step.events:
            return
        self.steps += 1
        self.events += len(step.events)
        self._left -= next_actor(step.events[-1].data) != self._service
        if not self._left:
            self.done.set()


async def measure(service: str, aof: str, orders: int) -> Result:
    """Steps per second of one process, its CPU and Redis' per step.

    Raises:
        RuntimeError: the process ended with an error.
    """
    async with own_redis(aof) as store:
        assert store.pid
        with TemporaryDirectory(prefix="swaplog-bench-") as folder, (Path(folder) / "log").open("w") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.bench.workers", service, str(orders), str(store.pid)),
                env={**os.environ, "REDIS_URL": store.url, "PARTITIONS": str(PARTITIONS), "LOG_FORMAT": "json"},
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
            try:
                said, _ = await asyncio.wait_for(process.communicate(), FILL_WITHIN_S + WITHIN_S)
            finally:
                if process.returncode is None:
                    process.kill()
            if process.returncode:
                lines = (Path(folder) / "log").read_text().splitlines()
                raise RuntimeError(f"the {service} ended with {process.returncode}: {lines[-1:]}")
    return dict(orjson.loads(said))


async def _fill(log: RedisLog, made: Makers, service: str, orders: int) -> None:
    for first in range(0, orders, WAVE):
        wave = [requested_order(number) for number in range(first, min(orders, first + WAVE))]
        for steps in [wave, *(await made.routed(wave) if service == EXECUTOR else ())]:
            await _write(log, [step for step, _ in steps])


async def _write(log: RedisLog, steps: Sequence[Step]) -> None:
    outcomes = await log.commit_many(steps)
    assert all(isinstance(outcome, Committed) for outcome in outcomes)


async def _main(settings: Settings, stop: asyncio.Event) -> None:
    service, orders, redis = sys.argv[1], int(sys.argv[2]), psutil.Process(int(sys.argv[3]))
    async with open_redis_log(settings.redis(), settings.partitions) as log, makers() as made:
        await log.start(create=True)
        await _fill(log, made, service, orders)
        counting = CountingLog(log, service, orders)
        handler = made.router if service == ROUTER else made.executor
        worker = Worker(
            cast("WorkerLog", counting),
            service,
            handler.handle,
            consumer="bench",
            health=Health("log"),
            handle_many=handler.handle_many,
        )
        before, redis_before, made.world.spent_s, began = _cpu(), _cpu_of(redis), 0.0, now()
        working = asyncio.create_task(worker.run(stop))
        finished = asyncio.create_task(counting.done.wait())
        await asyncio.wait({working, finished}, timeout=WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        took, cpu, redis_cpu = now() - began, _cpu() - before, _cpu_of(redis) - redis_before
        stop.set()
        finished.cancel()
        await working
    outside, steps = made.world.spent_s, counting.steps
    figures = {
        "orders": orders,
        "accepted": orders if counting.done.is_set() else 0,
        "refused": {},
        "steps": steps,
        "events": counting.events,
        "steps_per_s": per_second(steps, took - outside),
        "steps_per_s_with_stand_in": per_second(steps, took),
        # What one core would carry, whatever else keeps it busy.
        "steps_per_cpu_s": per_second(steps, cpu - outside),
        "cpu_us_per_step": round((cpu - outside) / steps * 1e6, 1),
        "redis_cpu_us_per_step": round(redis_cpu / steps * 1e6, 1),
        "stand_in_us_per_step": round(outside / steps * 1e6, 1),
    }
    sys.stdout.write(orjson.dumps(figures).decode())


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    run(sys.argv[1], _main)
