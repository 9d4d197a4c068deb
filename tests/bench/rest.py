"""What a stack costs that has nothing to do, and how soon one is there."""

import asyncio
import time

from deploy.local.stack import Stack
from tests.bench.cpu import CpuMeter, spent
from tests.bench.figures import Result
from tests.bench.target import OWN, own_folder

SETTLED_AFTER_S = 3.0


async def at_rest(cpu: CpuMeter, seconds: float) -> Result:
    """CPU of each process in percent of one core; the most expensive first."""
    await asyncio.sleep(SETTLED_AFTER_S)
    before, began = cpu.read(), time.perf_counter()
    await asyncio.sleep(seconds)
    used, took = spent(before, cpu.read()), time.perf_counter() - began
    shares = {name: round(seconds / took * 100, 2) for name, seconds in used.items()}
    return {"percent_of_a_core": {**shares, "total": round(sum(used.values()) / took * 100, 2)}}


async def started() -> Result:
    """Seconds until everything is ready: on an empty folder, and on what that left.

    Raises:
        ConfigurationError: it cannot be started.
    """
    figures: Result = {}
    with own_folder() as data:
        for name in ("first_s", "again_s"):
            began = time.perf_counter()
            async with Stack(data, env=OWN, durable=True):
                figures[name] = round(time.perf_counter() - began, 2)
    return figures
