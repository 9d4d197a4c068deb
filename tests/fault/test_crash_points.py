"""Every named point of every service: the process ends there, is started again, and no order is lost or doubled."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from redis.asyncio import Redis

from deploy.local import supervisor
from deploy.local.roster import STOP_ORDER, Service
from deploy.local.stack import Stack
from libs.events.redis_keys import Keys
from libs.events.redis_log import open_redis_log
from tests.checker import all_terminal, check_everything, statuses
from tests.fault.armed import marker
from tests.fault.traffic import FaultyClient, History, signed_up_somehow, until_cancelled
from tests.waiting import ended, eventually

ROOT = Path(__file__).parents[2]
# Points that need no order come first at the executor and last at the router: so neither waits for the other's crashes.
# What was taken when the process crashed is pending at the next start: only such an item is counted and looked up.
UPKEEP = ("work.take_pending", "work.renew", "work.claim", "work.park", "work.take", "work.count", "work.find")
CROSSINGS: dict[str, tuple[str, ...]] = {
    "gateway": ("log.commit", "accounts.query", "orders.list", "tunnel.open", "tunnel.ask"),
    "router": ("log.commit", "venue.quote", *UPKEEP, "work.timers"),
    "executor": (*UPKEEP, "log.commit", "venue.build", "chain.send", "chain.look", "chain.balances", "chain.view",
                 "chain.last_look"),
    "projector": ("log.read", "projection.resume", "projection.apply", "projection.checkpoint", "reader.report"),
    "notifier": ("log.read", "snapshot.read", "socket.send"),
    "localnet": ("block.write",),
}  # fmt: skip
SINGLE_POINTS: dict[str, tuple[str, ...]] = {
    "gateway": ("order.answer.before",),
    "projector": ("projection.commit.before", "projection.commit.after"),
}
ENVIRONMENT = {
    "PORT": "0",
    "NOTIFIER_PORT": "0",
    "LOCALNET_PORT": "0",
    "LOCALNET_SLOT_MS": "50",
    "RETRY_BASE_MS": "50",
    "RETRY_CAP_MS": "300",
    "DRAIN_S": "3",
    "ATTEMPTS_MAX": "50",  # the world outside is away for seconds; a client would not want his order given up for that
}


def points(service: str) -> list[str]:
    both = (f"{name}.{side}" for name in CROSSINGS[service] for side in ("before", "after"))
    return [*both, *SINGLE_POINTS.get(service, ())]


def test_every_point_in_the_code_is_one_the_test_crashes_at() -> None:
    source = "".join(path.read_text() for top in ("libs", "services") for path in (ROOT / top).rglob("*.py"))
    assert set(re.findall(r'crossing\("([^"]+)"\)', source)) == {name for each in CROSSINGS.values() for name in each}
    # Those of a repair are crossed in tests/contract/test_repair_meanwhile.py: here nothing is lost.
    single = {name for name in re.findall(r'crash_point\("([^"]+)"\)', source) if not name.startswith("repair.")}
    assert single == {name for each in SINGLE_POINTS.values() for name in each}


@asynccontextmanager
async def armed_stack(folder: Path, plan: dict[str, list[str]]) -> AsyncIterator[Stack]:
    """The system, each of its services about to crash at the first point of its list."""
    for service in STOP_ORDER:
        (folder / service).write_text("\n".join(plan.get(service, [])))
    command = (sys.executable, "-m", "tests.fault.armed", str(folder))
    roster = [Service(name, (*command, name)) for name in STOP_ORDER]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "RESTART_FIRST_S", 0.02)
        patch.setattr(supervisor, "RESTART_FORGET_S", 0)
        async with Stack(folder / "data", env=ENVIRONMENT, roster=roster, durable=True) as stack:
            yield stack


async def stir(stack: Stack) -> None:
    """A transaction lost without a trace, a blockhash that expires, and an item nobody can read, for both workers."""
    async with Redis.from_url(stack.redis_url) as redis, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{stack.ports.localnet}/admin/trouble"
        while True:
            for worker in ("router", "executor"):
                await redis.xadd(Keys(0).work(worker), {"subject": "", "state": "no state"})
            with suppress(aiohttp.ClientError, OSError):
                await session.put(url, json={"drop_next": 1})
                await asyncio.sleep(0.7)
                await session.put(url, json={"expire_blockhashes": True})
            await asyncio.sleep(0.7)


async def watch(client: FaultyClient) -> None:
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with client.session.ws_connect("/api/ws/orders") as socket:
            for _ in range(5):
                await socket.receive(timeout=1)


async def traffic(stack: Stack, history: History) -> None:
    async with signed_up_somehow(stack.base_url, history) as client, asyncio.TaskGroup() as group:
        group.create_task(until_cancelled(client.accepted))
        group.create_task(until_cancelled(client.list))
        group.create_task(until_cancelled(lambda: watch(client)))


async def parked_removed(stack: Stack) -> None:
    """What nobody can read is what was parked, and nothing else; then it is gone."""
    async with open_redis_log(stack.redis_url, stack.settings.partitions) as log:
        parked = await log.parked(10_000)
    assert parked
    assert {item.order_id for item in parked} == {""}
    async with Redis.from_url(stack.redis_url) as redis:
        await redis.delete(Keys(0).parked)


@pytest.mark.timeout(600)
async def test_a_crash_at_any_point_changes_nothing(tmp_path: Path) -> None:
    history, plan = History(), {service: points(service) for service in STOP_ORDER}
    wanted = {marker(tmp_path, service, point) for service, each in plan.items() for point in each}
    async with armed_stack(tmp_path, plan) as stack:
        busy = [asyncio.create_task(traffic(stack, history)) for _ in range(2)]
        busy.append(asyncio.create_task(stir(stack)))

        async def all_crashed() -> bool:
            assert not (left := sorted(path.name for path in wanted if not path.exists())), left
            for task in busy:
                if task.done():
                    task.result()
            return True

        await eventually(all_crashed, what="a crash at every point", within_s=400, poll_s=0.3)
        await ended(busy)
        await stack.until_ready()

        await all_terminal(stack, history.promised.values())
        await parked_removed(stack)
        found = await check_everything(stack, history.promised.values())
        assert statuses(found) == {"CONFIRMED": len(found)}
        assert history.contradictions == []
        assert history.hung == []
        assert len(history.promised) > 0
