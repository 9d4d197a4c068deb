"""Every process killed at every step of an order: it still ends CONFIRMED, once, with one settled transaction."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio

from deploy.local import supervisor
from deploy.local.stack import Stack
from libs.events.errors import LogUnavailable
from libs.events.ids import Position
from libs.events.redis_log import RedisLog, open_redis_log
from tests.checker import all_terminal, check_everything, statuses
from tests.clients import Client, signed_up
from tests.waiting import eventually

STEPS = ("OrderRequested", "RoutingStarted", "RouteSelected", "TxSubmitted", "TxConfirmed")
SERVICES = ("gateway", "router", "executor", "projector", "notifier")
PROCESSES = (*SERVICES, "localnet", "redis", "postgres")
ENVIRONMENT = {
    "PORT": "0",
    "NOTIFIER_PORT": "0",
    "LOCALNET_PORT": "0",
    "LOCALNET_SLOT_MS": "100",
    "RETRY_BASE_MS": "50",
    "RETRY_CAP_MS": "500",
    "DRAIN_S": "3",
    "ATTEMPTS_MAX": "50",  # the world outside is away for seconds; a client would not want his order given up for that
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    patch = pytest.MonkeyPatch()
    patch.setattr(supervisor, "RESTART_FORGET_S", 0)  # these processes die of us, not of themselves
    folder: Path = tmp_path_factory.mktemp("killed")
    async with Stack(folder / "data", env=ENVIRONMENT, durable=True) as running:
        yield running
    patch.undo()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with signed_up(stack.base_url) as user:
        yield user


async def accepted(client: Client) -> str:
    """Post until there is an answer, under one key, as the API asks its clients to do."""
    key = uuid4().hex

    async def post() -> str:
        body = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "10"}
        try:
            async with client.session.post("/api/orders", json=body, headers={"Idempotency-Key": key}) as answer:
                text = await answer.text()
                assert answer.status in {202, 503}, text
                return str((await answer.json())["orderId"]) if answer.status == 202 else ""
        except aiohttp.ClientConnectionError:
            return ""

    return await eventually(post, what="the order is accepted", poll_s=0.1)


async def tips(log: RedisLog) -> dict[int, Position]:
    return {partition: await log.tip(partition) for partition in range(log.partitions)}


async def when(stack: Stack, step: str, watching: asyncio.Event, act: Callable[[], Awaitable[None]]) -> None:
    """Tail the log as any integrator would, and act the moment the step shows."""
    async with open_redis_log(stack.redis_url, stack.settings.partitions) as log:
        after = await tips(log)
        watching.set()
        async with asyncio.timeout(120):
            while True:
                for entry in await log.read(after, 100, 500):
                    after[entry.partition] = entry.at
                    if entry.fields["type"] == step:
                        return await act()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", PROCESSES)
async def test_a_process_killed_at_a_step_changes_nothing(stack: Stack, client: Client, name: str, step: str) -> None:
    await stack.until_ready()
    watching = asyncio.Event()
    killing = asyncio.create_task(when(stack, step, watching, lambda: stack.kill(name, signal.SIGKILL)))
    await watching.wait()
    order_id = await accepted(client)
    await killing

    await eventually_terminal(stack, order_id)


@pytest.mark.parametrize("step", STEPS)
async def test_services_asked_to_stop_at_a_step_finish_what_they_have(stack: Stack, client: Client, step: str) -> None:
    await stack.until_ready()
    running = {name: stack._kept[name].process for name in SERVICES}
    watching = asyncio.Event()

    async def ask() -> None:
        await asyncio.gather(*(stack.kill(name, signal.SIGTERM) for name in SERVICES))

    asking = asyncio.create_task(when(stack, step, watching, ask))
    await watching.wait()
    order_id = await accepted(client)
    await asking

    assert {name: await process.exited() for name, process in running.items() if process} == dict.fromkeys(SERVICES, 0)
    await eventually_terminal(stack, order_id)


async def eventually_terminal(stack: Stack, order_id: str) -> None:
    while True:
        try:
            return await all_terminal(stack, [order_id])
        except LogUnavailable:  # it is Redis that was killed
            await stack.until_ready("redis")


async def test_after_all_that_every_promise_was_kept(stack: Stack, client: Client) -> None:
    await stack.until_ready()
    posted = [order["orderId"] for order in await client.all_orders()]
    found = await check_everything(stack, posted)

    assert len(posted) == len(found) == len(STEPS) * (len(PROCESSES) + 1)
    assert statuses(found) == {"CONFIRMED": len(posted)}
    assert all(count >= len(STEPS) for name, count in stack.restarts.items() if name in PROCESSES)
