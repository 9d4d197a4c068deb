"""A router that meets an order it cannot bear: `python -m tests.fault.poisonous MODE ORDER`. Test use only.

Modes: `raise`, `hang`, `kill` (the whole process, at once) and `none`. Needs REDIS_URL and PARTITIONS.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from libs.events.envelope import Envelope
from libs.events.model import Event, OrderRequested
from libs.events.order import Order
from libs.events.reactions import ROUTER
from libs.events.redis_log import open_redis_log
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health
from libs.service.logging import configure_logging
from tests.builders import route_selected, routing_started

LIMITS = WorkerLimits(
    block_ms=20, handle_seconds_max=0.3, retry_base_s=0.001, retry_cap_s=0.002, claim_idle_ms=5_000, claim_every_s=0.1
)
WORK_S = 0.02  # a venue's answer: whoever is waiting for one is in hand when the process dies


async def main(mode: str, poison: str) -> None:
    # A traceback drawn for people takes longer than a handler may.
    configure_logging(ROUTER, fmt="json")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def handle(order: Order, event: Envelope) -> Sequence[Event]:
        if order.id == poison and mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if order.id == poison and mode == "hang":
            await asyncio.Event().wait()
        if order.id == poison and mode == "raise":
            raise RuntimeError("cannot bear it")
        await asyncio.sleep(WORK_S)
        return [routing_started() if isinstance(event.data, OrderRequested) else route_selected()]

    async with open_redis_log(os.environ["REDIS_URL"], int(os.environ["PARTITIONS"])) as log:
        await log.start()
        await Worker(log, ROUTER, handle, consumer="only", health=Health("log"), limits=LIMITS).run(stop)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
