"""One node of a cluster that is silent holds up nobody but its own partitions, and for all of them at most once."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from deploy.local.processes import spawn
from libs.events.errors import LogUnavailable
from libs.events.ids import START, Position, partition_of_user
from libs.events.log import Committed, Entry
from libs.events.redis_client import REPLY_TIMEOUT_S
from libs.events.redis_keys import Keys
from libs.events.redis_log import RedisLog, open_redis_log
from libs.orders.store import OrderStore
from libs.orders.views import OrderViews
from libs.service.health import Health
from libs.service.shared import Rate, SharedUnavailable, open_shared
from services.notifier.hub import Hub
from services.notifier.tail import Tail
from services.projector import janitor
from services.projector.handlers import Projector
from services.projector.janitor import Janitor
from services.projector.repair import Repair
from tests.builders import a_request
from tests.cluster import Cluster, ClusterNode, paused, redis_cluster
from tests.contract.http_gateway import NothingProjected
from tests.contract.notifier_rig import LIMITS
from tests.waiting import eventually

PARTITIONS = 4
AT = dict.fromkeys(range(PARTITIONS), START)
SOON_S = REPLY_TIMEOUT_S / 2  # who waited for the silent node took longer, on whatever machine


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with redis_cluster() as made:
        yield made


@dataclass
class World:
    log: RedisLog
    node: ClusterNode
    """One that has some of the partitions, and is the first to be asked what any could say."""
    others: list[int]

    async def order(self, *, there: bool = False) -> None:
        """One of somebody whose partition is on that node, or is not."""
        users = (f"user-{number}" for number in range(99))
        user = next(one for one in users if (partition_of_user(one, PARTITIONS) not in self.others) == there)
        step, _ = a_request(PARTITIONS, user)
        assert isinstance(await self.log.commit(step), Committed)

    async def answers(self) -> bool:
        with suppress(LogUnavailable):
            await self.order(there=True)
            return True
        return False


@pytest.fixture
async def world(cluster: Cluster) -> AsyncIterator[World]:
    async with open_redis_log(cluster.url, PARTITIONS) as log:
        await log._redis.send([["FLUSHALL"]])
        await log.start(create=True)
        nodes = [await cluster.node_of(Keys(partition).log) for partition in range(PARTITIONS)]
        first = cluster.nodes[0]
        assert first in nodes
        yield World(log, first, [partition for partition, node in enumerate(nodes) if node is not first])


async def test_who_asks_all_of_them_waits_for_a_silent_one_only_once(world: World) -> None:
    at: dict[int, Position] = dict(AT)
    async with paused(world.node):
        await world.log.register_reader("reader", at)
        for _ in range(2):
            await asyncio.sleep(1.1)  # readers look after the log every second
            began = time.monotonic()
            await world.order()
            entries: list[Entry] = []
            while not entries and time.monotonic() - began < SOON_S:  # others of the reads may end first
                entries = await world.log.read(at, 100, 500)
            at |= {entry.partition: entry.at for entry in entries}
            await world.log.register_reader("reader", at)
            await world.log.move_due()
            await world.log.pressure()
            assert time.monotonic() - began < SOON_S
    await eventually(world.answers, what="the node is asked again once it answers")


async def test_a_question_without_an_answer_is_enough_to_know_it(world: World) -> None:
    await world.order()
    await world.log._redis.send([["SCRIPT", "FLUSH"]])  # so that a commit has something for all of them
    async with paused(world.node):
        (partition, *_) = set(range(PARTITIONS)) - set(world.others)
        with pytest.raises(LogUnavailable):
            await world.log.tip(partition)
        began = time.monotonic()
        await world.order()
        assert time.monotonic() - began < SOON_S
    await eventually(world.answers, what="the node is asked again once it answers")


async def test_the_other_partitions_are_archived_and_trimmed_meanwhile(
    world: World, store: OrderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "SWEEP_EVERY_S", 0.5)
    log, health, stop = world.log, Health("redis", "postgres"), asyncio.Event()
    projection, sweeper = store.projection(), Janitor(log, keep_s=0, memory_max_bytes=2**30)
    projector = Projector(log, projection, health, Repair(log, store, projection), sweeper)
    running = asyncio.create_task(projector.run(stop))

    async def archived() -> bool:
        at = await store.checkpoints()
        return all([at[n].at == await log.tip(n) for n in world.others])

    async def is_trimmed() -> bool:
        return bool(await trimmed_to(log, world.others))

    await eventually(lambda: health.ready, what="it is at work")
    await world.order(there=True)
    async with paused(world.node):
        await eventually(lambda: not health.ready, what="it says so", within_s=25)
        for _ in range(300):  # Redis trims whole nodes of a stream: a hundred entries
            await world.order()
        await eventually(archived, what="the others are archived", within_s=25)
        await eventually(is_trimmed, what="the others are trimmed", within_s=25)
        assert not health.ready
    await eventually(lambda: health.ready, what="it is well again")
    await world.order(there=True)
    world.others = list(range(PARTITIONS))
    await eventually(archived, what="all is archived")
    stop.set()
    await running


async def trimmed_to(log: RedisLog, partitions: list[int]) -> int:
    """The farthest beginning of these partitions, less one."""
    firsts = await log._redis.send([["XRANGE", Keys(n).log, "-", "+", "COUNT", 1] for n in partitions])
    return max((Position.parse(rows[0][0]).position - 1 for rows in firsts if rows), default=0)


async def test_a_notifier_nobody_listens_to_stays_ready_for_the_others(world: World) -> None:
    log, stop, said = world.log, asyncio.Event(), list[str]()

    async def nothing_to_reopen() -> None:
        return

    hub = Hub(log, OrderViews(log, NothingProjected()), LIMITS)
    tail = Tail(log, hub, LIMITS, name="notifier", reopen=nothing_to_reopen)
    following = asyncio.create_task(tail.follow(stop, said.append))
    await eventually(lambda: said[-1:] == [""], what="it is at work")
    async with paused(world.node):
        await log.register_reader("who notices that the node is away", AT)
        await asyncio.sleep(0.5)  # what the step under way says is of before
        said.clear()
        await asyncio.sleep(2)  # nothing may come: there is no event to wait for
        assert set(said) == {""}
    stop.set()
    await following


async def test_rates_and_tickets_of_the_others_are_not_held_up(cluster: Cluster) -> None:
    node, rate = cluster.nodes[0], Rate(1_000, 1)
    async with open_shared(cluster.url) as shared:
        there, here = list[str](), list[str]()
        for name in (f"user {number}" for number in range(20)):
            await shared.spend(name, rate)
            (there if await cluster.node_of(f"swaplog:rate:{name}") is node else here).append(name)
        async with paused(node):
            with pytest.raises(SharedUnavailable):
                await shared.spend(there[0], rate)
            began = time.monotonic()
            waiting = [asyncio.create_task(shared.spend(name, rate)) for name in there * 10]
            await asyncio.sleep(0.1)  # they wait by now, or were refused: either way they take what room they take
            for name in here:
                assert (await shared.spend(name, rate)).allowed
            told = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(one, SharedUnavailable) for one in told)
            assert time.monotonic() - began < 1

        async def answers() -> bool:
            with suppress(SharedUnavailable):
                return (await shared.spend(there[0], rate)).allowed
            return False

        await eventually(answers, what="the node is asked again once it answers")


async def test_a_cluster_that_is_all_away_is_an_error_of_ours(cluster: Cluster) -> None:
    async with open_shared(cluster.url) as shared:
        for number in range(5):
            await shared.spend(f"user {number}", Rate(1, 1))
        for node in cluster.nodes:
            await cluster.kill(node)
        for number in range(5):
            with pytest.raises(SharedUnavailable):
                await shared.spend(f"user {number}", Rate(1, 1))
        for node in cluster.nodes:
            node.process = spawn(node.command)

        async def answers() -> bool:
            with suppress(SharedUnavailable):
                await shared.spend("user", Rate(1, 1))
                return True
            return False

        await eventually(answers, what="the cluster is asked again once it is back")
