"""What is lost when: orders are placed, Redis is killed or loses what was not yet on its disk, and the rest is counted.

A power cut is made from what a setting of `appendfsync` promises: of the file, what was written before the last sync
that is guaranteed stays. The archive may have the rest, if Postgres was there.
"""

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from deploy.local import supervisor
from deploy.local.stack import Stack
from libs.events.redis_log import open_redis_log
from tests.checker import all_terminal, histories, settled_by_order, whole_log
from tests.fault.traffic import FaultyClient, History, signed_up_somehow
from tests.waiting import eventually

ENVIRONMENT = {
    "PORT": "0",
    "NOTIFIER_PORT": "0",
    "LOCALNET_PORT": "0",
    "LOCALNET_SLOT_MS": "20",
    "DRAIN_S": "2",
    "ATTEMPTS_MAX": "50",
    "RETRY_BASE_MS": "50",
    "RETRY_CAP_MS": "300",
}
SECONDS = 4.0
PER_SECOND = 40
# How old the last guaranteed sync may be: Redis' promise for everysec, the kernel's habit for no.
UNSYNCED_S = {"always": 0.0, "everysec": 1.0, "no": 30.0}
EVENTS = ("process killed", "power cut", "power cut while Postgres is away")


@dataclass(frozen=True)
class Loss:
    """One experiment. `lost`: orders answered with a 202 that are in no store afterwards."""

    appendfsync: str
    event: str
    accepted: int
    lost: int
    settled_twice: int


async def measure(setting: str, event: str, folder: Path) -> Loss:
    """Place orders for some seconds, make the event happen, and count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "RESTART_FIRST_S", 0.05)
        async with Stack(folder, env=ENVIRONMENT, durable=True) as stack:
            history = History()
            async with Redis.from_url(stack.redis_url) as redis:
                await redis.config_set("appendfsync", setting)
            async with signed_up_somehow(stack.base_url, history) as client:
                if event == EVENTS[2]:
                    await stack.stop("postgres")
                sizes = await place(stack, client)
                await happen(stack, setting, event, sizes)
                if event == EVENTS[2]:
                    await stack.start("postgres")
            await stack.until_ready()
            return await counted(stack, history, setting, event)


async def place(stack: Stack, client: FaultyClient) -> list[tuple[float, int]]:
    """Orders at a steady pace; gives how large Redis' file was, and when."""
    file, sizes, began = newest_file(stack), list[tuple[float, int]](), time.monotonic()
    orders = []
    for number in range(int(SECONDS * PER_SECOND)):
        await asyncio.sleep(began + number / PER_SECOND - time.monotonic())
        sizes.append((time.monotonic(), file.stat().st_size))
        orders.append(asyncio.create_task(client.accepted(amount="0.1")))
    await asyncio.gather(*orders)
    sizes.append((time.monotonic(), file.stat().st_size))
    return sizes


async def happen(stack: Stack, setting: str, event: str, sizes: Sequence[tuple[float, int]]) -> None:
    if event == "process killed":
        await stack.kill("redis", signal.SIGKILL)
        return
    await stack.stop("redis")
    if UNSYNCED_S[setting]:
        synced = [size for at, size in sizes if at <= sizes[-1][0] - UNSYNCED_S[setting]]
        with newest_file(stack).open("r+b") as file:
            file.truncate(synced[-1] if synced else sizes[0][1])
    await stack.start("redis")


def newest_file(stack: Stack) -> Path:
    return max((stack.folders.data / "redis" / "appendonlydir").glob("*.incr.aof"))


async def counted(stack: Stack, history: History, setting: str, event: str) -> Loss:
    accepted = set(history.promised.values())

    async def found() -> list[set[str]]:
        try:
            async with open_redis_log(stack.redis_url, stack.settings.partitions) as log:
                await log.start()  # once it is, everything that could be repaired was
            return [set(histories(await whole_log(stack)))]  # it may be empty
        except Exception as error:
            raise AssertionError(str(error)) from error

    (held,) = await eventually(found, what="the log is open", within_s=60)
    with suppress(AssertionError):  # an order that is there always ends; if not, it shows as a difference
        await all_terminal(stack, accepted & held)
    settled = await settled_by_order(stack, accepted)
    twice = sum(len(signatures) > 1 for signatures in settled.values())
    return Loss(setting, event, len(accepted), len(accepted - held), twice)
