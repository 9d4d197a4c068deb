"""A whole system for the client library, whose venues and chain can be in trouble."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from deploy.local import supervisor
from deploy.local.stack import Stack
from libs.client import Client, Event
from libs.client.transport import TRIES_MAX
from libs.client.watching import PING_EVERY_S

ENVIRONMENT = {
    "PORT": "0",
    "NOTIFIER_PORT": "0",
    "LOCALNET_PORT": "0",
    "LOCALNET_SLOT_MS": "50",
    "ATTEMPTS_MAX": "2",
    "RETRY_BASE_MS": "20",
    "RETRY_CAP_MS": "50",
    "DRAIN_S": "2",
}

FIVE = ["OrderRequested", "RoutingStarted", "RouteSelected", "TxSubmitted", "TxConfirmed"]


@asynccontextmanager
async def system_of(folder: Path) -> AsyncIterator[Stack]:
    """Its services are started again soon, however often they end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "RESTART_FORGET_S", 0)
        async with Stack(folder, env=ENVIRONMENT, durable=True) as running:
            yield running


@asynccontextmanager
async def a_client(
    stack: Stack, *, tries_max: int = TRIES_MAX, ping_every_s: float = PING_EVERY_S
) -> AsyncIterator[Client]:
    async with Client(stack.base_url, tries_max=tries_max, ping_every_s=ping_every_s) as client:
        await client.sign_up(f"{uuid4().hex}@example.com", "correct horse battery")
        yield client


async def watched(client: Client, order_id: str) -> list[Event]:
    return [event async for event in client.watch(order_id)]


@asynccontextmanager
async def trouble(stack: Stack, **kinds: object) -> AsyncIterator[None]:
    url = f"http://127.0.0.1:{stack.ports.localnet}/admin/trouble"
    async with aiohttp.ClientSession() as session:
        assert (await session.put(url, json=kinds)).status == 200
        try:
            yield
        finally:
            await session.delete(url)
