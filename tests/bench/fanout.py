"""What one notifier carries: thousands of sockets of one user, some of which never read.

Only the gateway, the projector and the notifier run; the events come straight from the group commit, each the first of
an order nobody works on. So what is measured is the way from the log to the sockets; nobody else needs the cores but
the listeners, whose share is told.
"""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

import orjson
import psutil  # type: ignore[import-untyped]

from deploy.local.roster import services
from deploy.local.stack import Stack
from libs.events.log import Committed
from libs.events.redis_log import RedisLog, open_redis_log
from libs.service.settings import load_settings
from tests.bench.cpu import CpuMeter, spent
from tests.bench.figures import Result, latencies_ms, per_second
from tests.bench.made import PARTITIONS, order_of
from tests.bench.target import OWN, own_folder, set_aof
from tests.clients import signed_up

MUTE = 20  # sockets that never read
SINGLE = 20  # events one after the other
BURST, BURSTS = 25, 5  # events at once, and how often
ANSWER_BYTES_MAX = 1 << 26
WITHIN_S = 300
SETTLED_AFTER_S = 2.0
RUN = ("gateway", "notifier", "projector")


class Crowd:
    """The process with the sockets."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._wanted = 0

    async def answer(self) -> dict[str, Any]:
        """Raises RuntimeError when it ended instead."""
        assert self.process.stdout
        line = await asyncio.wait_for(self.process.stdout.readline(), WITHIN_S)
        if not line:
            raise RuntimeError("the listeners ended: not every event reached everybody in time")
        return dict(orjson.loads(line))

    def expect(self, more: int) -> None:
        """So many events more are coming; `answer` tells of them."""
        assert self.process.stdin
        self._wanted += more
        self.process.stdin.write(f"{self._wanted}\n".encode())


async def measure(aof: str, sockets: int) -> Result:
    """Memory of an idle socket, delivery of single events and of bursts, and what a kill costs.

    Raises:
        RuntimeError: events did not arrive.
    """
    env = {**OWN, "SOCKETS_PER_USER": "10000"}
    settings = load_settings(environ={**env})
    roster = [service for service in services(settings) if service.name in RUN]
    with own_folder() as data:
        async with Stack(data, env=env, roster=roster, durable=True) as stack, signed_up(stack.base_url) as client:
            await set_aof(stack.redis_url, aof)
            notifier = stack.pids["notifier"]
            before = _resident_kib(notifier)
            place = "127.0.0.1", str(stack.ports.notifier)
            async with (
                open_redis_log(stack.redis_url, PARTITIONS) as log,
                _listening(*place, client.token, sockets) as crowd,
            ):
                await log.start()
                await asyncio.sleep(SETTLED_AFTER_S)
                figures: Result = {
                    "sockets": sockets,
                    "mute": MUTE,
                    "kib_per_idle_socket": round((_resident_kib(notifier) - before) / (sockets + MUTE), 1),
                }
                meter = CpuMeter({"notifier": notifier, "listeners": crowd.process.pid})
                figures["single"] = await _single(log, crowd, client.user_id, sockets, meter)
                figures["burst"] = await _burst(log, crowd, client.user_id, sockets, meter)
                return figures | await _after_a_kill(stack, log, crowd, client.user_id)


async def _single(log: RedisLog, crowd: Crowd, user: str, sockets: int, meter: CpuMeter) -> Result:
    """One event at a time, from the beginning of its commit until each socket has it."""
    delays: list[float] = []
    rates: list[float] = []
    before = meter.read()
    for _ in range(SINGLE):
        crowd.expect(1)
        committed_at = await _commit(log, user, 1)
        (heard,) = (await crowd.answer())["heard_at"]
        delays += [at - committed_at for at in heard]
        rates.append(per_second(sockets, heard[-1] - committed_at))
    return {
        "messages_per_s": median(rates),
        "delivery_ms": latencies_ms(delays),
        **_costs(before, meter, SINGLE * sockets),
    }


async def _burst(log: RedisLog, crowd: Crowd, user: str, sockets: int, meter: CpuMeter) -> Result:
    """Many events at once: what the notifier can deliver."""
    rates: list[float] = []
    before = meter.read()
    for _ in range(BURSTS):
        crowd.expect(BURST)
        committed_at = await _commit(log, user, BURST)
        heard = (await crowd.answer())["heard_at"]
        rates.append(per_second(sockets * BURST, max(times[-1] for times in heard) - committed_at))
    return {"messages_per_s": median(rates), "events": BURST, **_costs(before, meter, BURSTS * BURST * sockets)}


async def _after_a_kill(stack: Stack, log: RedisLog, crowd: Crowd, user: str) -> Result:
    """Events before and after the notifier is killed: who comes back must have all of them, once."""
    began = time.perf_counter()
    crowd.expect(2)
    await _commit(log, user, 1)
    await stack.kill("notifier", signal.SIGKILL)
    await _commit(log, user, 1)
    answer = await crowd.answer()
    whole = answer["same"] and not answer["reset"]
    trouble = "" if whole else f"after a kill not everybody heard the same ({answer['reset']} resets)"
    return {"back_after_kill_s": round(time.perf_counter() - began, 1), "trouble": trouble}


async def _commit(log: RedisLog, user: str, events: int) -> float:
    """Write so many; gives when (`time.time`) the write began: later than that they cannot have been on their way."""
    steps = [order_of(user, number)[0] for number in range(events)]
    at = time.time()
    outcomes = await log.commit_many(steps)
    assert all(isinstance(outcome, Committed) for outcome in outcomes)
    return at


def _costs(before: dict[str, float], meter: CpuMeter, messages: int) -> Result:
    return {
        f"{name}_cpu_us_per_message": round(used / messages * 1e6, 1)
        for name, used in spent(before, meter.read()).items()
    }


@asynccontextmanager
async def _listening(host: str, port: str, token: str, sockets: int) -> AsyncIterator[Crowd]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.listeners", host, port, token, str(sockets), str(MUTE)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=ANSWER_BYTES_MAX,
    )
    crowd = Crowd(process)
    try:
        await crowd.answer()
        yield crowd
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _resident_kib(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss // 1024)
