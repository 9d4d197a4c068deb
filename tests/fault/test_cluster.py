"""A cluster of three under the whole system: a node goes and comes back, a partition moves to another node."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from redis.crc import key_slot

from deploy.local.stack import Stack
from libs.events.errors import LogUnavailable
from libs.events.ids import partition_of_user
from libs.events.reactions import TERMINAL
from libs.events.redis_keys import Keys
from libs.events.redis_log import RedisLog, open_redis_log
from libs.orders.store import open_store
from tests.checker import all_terminal, check_everything
from tests.cluster import Cluster, ClusterNode, paused, redis_cluster
from tests.fault.stores_rig import ENVIRONMENT
from tests.fault.traffic import FaultyClient, History, signed_up_somehow
from tests.waiting import eventually

ORDERS = 8
PAUSE_S = 0.05

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class World:
    """A stack on a cluster, and a client on each node."""

    cluster: Cluster
    stack: Stack
    log: RedisLog
    history: History = field(default_factory=History)
    clients: list[FaultyClient] = field(default_factory=list)

    def log_of(self, client: FaultyClient) -> str:
        return Keys(partition_of_user(client.user_id, self.stack.settings.partitions)).log

    async def node_of(self, client: FaultyClient) -> ClusterNode:
        return await self.cluster.node_of(self.log_of(client))

    async def start(self) -> None:
        """Know the log as it is now."""

        async def started() -> bool:
            with suppress(LogUnavailable):
                await self.log.start()
                return True
            return False

        await eventually(started, what="the log is open", within_s=60)

    async def ended(self, orders: list[str]) -> bool:
        found = [await self.log.find(order_id) for order_id in orders]
        return all(held is not None and held.order.status in TERMINAL for held in found)

    async def archived(self, orders: list[str]) -> bool:
        async with open_store(self.stack.database_url) as store:
            found = await store.get_many(orders)
        return len(found) == len(orders) and all(order.status in TERMINAL for order in found.values())

    async def ends_well(self) -> None:
        """Every promise, over everything that ever happened here; and nothing had to be restored."""
        epoch = self.log.epoch
        await self.start()
        await all_terminal(self.stack, self.history.promised.values())
        await check_everything(self.stack, self.history.promised.values())
        assert self.history.contradictions == []
        assert self.log.epoch == epoch


async def placing(client: FaultyClient) -> list[str]:
    """Orders one after the other, each asked for until it is accepted."""
    placed = []
    for _ in range(ORDERS):
        placed.append(await client.accepted())
        await asyncio.sleep(PAUSE_S)
    return placed


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    environment = {**ENVIRONMENT, "REDIS_URL": cluster.url}
    async with AsyncExitStack() as opened:
        folder = tmp_path_factory.mktemp("cluster") / "data"
        stack = await opened.enter_async_context(Stack(folder, env=environment, durable=True))
        log = await opened.enter_async_context(open_redis_log(cluster.url, stack.settings.partitions))
        made = World(cluster, stack, log)
        await made.start()
        without = {node.port for node in cluster.nodes}
        while without:
            client = await opened.enter_async_context(signed_up_somehow(stack.base_url, made.history))
            if (port := (await made.node_of(client)).port) in without:
                without.remove(port)
                made.clients.append(client)
        yield made


@pytest.fixture(scope="module")
def cluster() -> Any:
    with redis_cluster(durable=True) as made:
        yield made


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_node_is_away_and_comes_back(world: World, how: str) -> None:
    client, *others = world.clients
    away = await world.node_of(client)
    tasks = [asyncio.create_task(placing(each)) for each in world.clients]
    before = [await client.accepted() for _ in range(2)]
    async with AsyncExitStack() as undo:
        if how == "frozen":
            await undo.enter_async_context(paused(away))
        else:
            await world.cluster.kill(away)
            undo.push_async_callback(world.cluster.restart, away)
        placed = [order for task in tasks[1:] for order in await task]
        placed += [await each.accepted() for each in others]
        await eventually(lambda: world.ended(placed), what="orders of the other nodes have ended")
        await eventually(lambda: world.archived(placed), what="orders of the other nodes are archived")
        assert not tasks[0].done()
    assert len(await tasks[0]) == ORDERS
    await world.start()
    await eventually(lambda: world.ended(before), what="orders of the node that was away have ended")
    await world.ends_well()


async def test_a_partition_moves_to_another_node(world: World) -> None:
    client = world.clients[0]
    source = await world.node_of(client)
    target = next(node for node in world.cluster.nodes if node is not source)
    tasks = [asyncio.create_task(placing(each)) for each in world.clients]
    await client.accepted()
    await world.cluster.migrate(key_slot(world.log_of(client).encode()), source, target)
    assert await world.node_of(client) is target
    assert [len(placed) for placed in await asyncio.gather(*tasks)] == [ORDERS] * len(tasks)
    await world.ends_well()
