"""A whole system whose stores lose things or go away, and what was promised before."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from deploy.local import supervisor
from deploy.local.stack import Stack
from libs.events.errors import LogUnavailable
from libs.events.log import Entry
from libs.events.redis_log import open_redis_log
from libs.orders.store import open_store
from tests.checker import all_terminal, check_everything, whole_log
from tests.fault.traffic import FaultyClient, History, signed_up_somehow
from tests.waiting import eventually

ENVIRONMENT = {
    "PORT": "0",
    "NOTIFIER_PORT": "0",
    "LOCALNET_PORT": "0",
    "LOCALNET_SLOT_MS": "20",
    "RETRY_BASE_MS": "50",
    "RETRY_CAP_MS": "300",
    "DRAIN_S": "2",
    "ATTEMPTS_MAX": "50",
}

ORDERS = 6


@dataclass
class World:
    """A stack that loses things, and what clients were promised before."""

    stack: Stack
    client: FaultyClient
    history: History = field(default_factory=History)

    @property
    def redis_data(self) -> Path:
        return self.stack.folders.data / "redis"

    @property
    def postgres_data(self) -> Path:
        return self.stack.folders.data / "postgres"

    async def place(self, count: int = ORDERS) -> list[str]:
        return [await self.client.accepted() for _ in range(count)]

    async def some_that_wait(self) -> list[str]:
        """Orders that have not ended, because there is no chain."""
        await self.stack.stop("localnet")
        return await self.place()

    async def whole(self) -> list[Entry]:
        """The log, all of it archived. In this order: attempts fail and begin again meanwhile."""
        log = await whole_log(self.stack)
        await self.archived()
        return log

    async def archived(self) -> None:
        """Wait until Postgres has all that is in the log."""
        async with open_store(self.stack.database_url) as store:

            async def caught_up() -> bool:
                log = await whole_log(self.stack)
                points = await store.checkpoints()
                ends = {entry.partition: entry.at.position for entry in log}
                return all(points[partition].at.position >= end for partition, end in ends.items())

            await eventually(caught_up, what="everything is archived", within_s=240)

    async def epoch(self) -> str:
        async with open_redis_log(self.stack.redis_url, self.stack.settings.partitions) as log:

            async def started() -> str:
                with suppress(LogUnavailable):
                    await log.start()
                    return log.epoch
                return ""

            return await eventually(started, what="the log is open", within_s=240)

    async def ends_well(self, orders: list[str]) -> None:
        """Every promise, over everything that ever happened here."""
        await self.stack.start("localnet")
        await self.stack.until_ready()
        await self.place(2)
        await all_terminal(self.stack, [*orders, *self.history.promised.values()])
        await check_everything(self.stack, self.history.promised.values())
        assert self.history.contradictions == []


@asynccontextmanager
async def system_of(folder: Path) -> AsyncIterator[World]:
    """Its services are started again soon, however often they end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "RESTART_FIRST_S", 0.02)
        patch.setattr(supervisor, "RESTART_FORGET_S", 0)
        async with Stack(folder, env=ENVIRONMENT, durable=True) as stack:
            history = History()
            async with signed_up_somehow(stack.base_url, history) as client:
                yield World(stack, client, history)


@asynccontextmanager
async def redis_of(world: World) -> AsyncIterator[Any]:
    async with Redis.from_url(world.stack.redis_url, decode_responses=True) as redis:
        yield redis
