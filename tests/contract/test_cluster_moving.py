"""A slot that is half here and half there, for as long as whoever moves it takes."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress

import pytest
from redis.crc import key_slot

from libs.events.errors import LogReplaced, LogUnavailable
from libs.events.ids import START, partition_of_user
from libs.events.log import Committed
from libs.events.reactions import ROUTER
from libs.events.redis_keys import Keys
from libs.events.redis_log import RedisLog, open_redis_log
from libs.events.work import Item
from libs.orders.store import OrderStore
from libs.service.health import Health
from services.projector.handlers import Projector
from services.projector.repair import Repair
from tests.builders import a_request
from tests.cluster import Cluster, client, redis_cluster
from tests.waiting import eventually

PARTITIONS = 4
USERS = [next(f"u{n}" for n in range(99) if partition_of_user(f"u{n}", PARTITIONS) == p) for p in range(PARTITIONS)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with redis_cluster(durable=True) as made:
        yield made


async def comes_in(log: RedisLog, user: str) -> bool:
    with suppress(LogUnavailable, LogReplaced):
        return isinstance(await log.commit(a_request(PARTITIONS, user)[0]), Committed)
    return False


@pytest.mark.parametrize("moved", ["log", "meta", "work:router", "timers"])
async def test_its_orders_wait_and_the_others_do_not(cluster: Cluster, store: OrderStore, moved: str) -> None:
    keys = Keys(0)
    slot = key_slot(keys.log.encode())
    source = await cluster.node_of(keys.log)
    target = next(node for node in cluster.nodes if node is not source)
    stop, health = asyncio.Event(), Health("redis", "postgres")
    async with open_redis_log(cluster.url, PARTITIONS) as log:
        await log._redis.send([["FLUSHALL"]])
        await log.start(create=True)
        projector = Projector(log, projection := store.projection(), health, Repair(log, store, projection))
        running = asyncio.create_task(projector.run(stop))
        for user in USERS * 3:
            assert await comes_in(log, user)

        async def archived(partitions: Iterable[int]) -> bool:
            at = await store.checkpoints()
            return all([n in at and at[n].at == await log.tip(n) for n in partitions])

        # Whoever opens a log needs all of it: the projector must be at work before a part is away.
        await eventually(lambda: archived(range(PARTITIONS)), what="the first are archived")
        epoch = log.epoch
        async with client(source) as here, client(target) as there:
            ids = [await one.execute_command("CLUSTER", "MYID") for one in (here, there)]
            await there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
            await here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
            name = f"{keys.log.removesuffix(':log')}:{moved}"
            await here.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", name)
        taken: list[Item] = []
        for _ in range(8):
            assert not await comes_in(log, USERS[0])
            for user in USERS[1:]:
                assert await comes_in(log, user)
            with suppress(LogUnavailable):
                taken += await log.take(ROUTER, "me", 40, 200)
            with suppress(LogUnavailable):
                await log.claim(ROUTER, "other", 60_000)
            await asyncio.sleep(0.2)  # between attempts: the slot stays half moved for some seconds

        await eventually(lambda: archived(range(1, PARTITIONS)), what="others are archived", within_s=10)
        await cluster.migrate(slot, source, target)
        await eventually(lambda: comes_in(log, USERS[0]), what="it takes orders again", within_s=15)
        assert log.epoch == epoch

        async def all_taken() -> bool:
            with suppress(LogUnavailable):
                for item in await log.take_pending(ROUTER, "me") + await log.take(ROUTER, "me", 100, 100):
                    taken.append(item)
            entries = await log.read(dict.fromkeys(range(PARTITIONS), START), 1_000, 0)
            return {item.order_id for item in taken} == {entry.fields["subject"] for entry in entries}

        await eventually(all_taken, what="every order has been handed out", within_s=10)

        await eventually(lambda: archived(range(PARTITIONS)), what="all is archived", within_s=10)
        assert not running.done()
        stop.set()
        await running
