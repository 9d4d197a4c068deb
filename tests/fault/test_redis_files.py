"""What a Redis of our own has on its disk, cut, filled up and copied late: whatever is left, the log is whole again."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg
import pytest

from deploy.local.ports import Claims
from deploy.local.roster import LOOPBACK
from libs.events.errors import EventLogError, LogUnavailable
from libs.events.ids import START
from libs.events.log import Committed, Entry, Snapshot
from libs.events.redis_log import RedisLog, open_redis_log
from libs.orders.batch import Batch
from libs.orders.store import OrderStore, open_store
from services.projector.repair import Repair
from tests.builders import a_request, route_selected, routing_started, then
from tests.fault.own_redis import Disk, Server, server, small_disk
from tests.fault.proxy import Proxy, proxy
from tests.servers import throw_away_folders
from tests.waiting import eventually

PARTITIONS = 2
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")


@dataclass
class World:
    """A log, its archive, and who makes the one whole by the other."""

    log: RedisLog
    store: OrderStore

    async def mended(self) -> None:
        await Repair(self.log, self.store, self.store.projection()).mend()
        await self.log.start()

    async def archive(self) -> None:
        projection = self.store.projection()
        at = await projection.resume(self.log.epoch, PARTITIONS)
        while entries := await self.log.read(at, 100, 0):
            at = await projection.apply(self.log.epoch, Batch(at, entries))

    async def entries(self) -> list[Entry]:
        return await self.log.read(dict.fromkeys(range(PARTITIONS), START), 1_000, 0)

    async def order(self, user: str = "user-1") -> Snapshot:
        """Three events, in two writes."""
        step, made = a_request(PARTITIONS, user)
        assert isinstance(await self.log.commit(step), Committed)
        step, made = then(made, routing_started(), route_selected())
        assert isinstance(await self.log.commit(step), Committed)
        return made


@asynccontextmanager
async def world_on(url: str, database_url: str) -> AsyncIterator[World]:
    postgres = await asyncpg.connect(database_url)
    await postgres.execute("TRUNCATE events, orders, checkpoints")
    await postgres.close()
    async with open_redis_log(url, PARTITIONS) as log, open_store(database_url) as store:
        made = World(log, store)
        await made.mended()
        yield made


async def sizes_after_each(world: World, redis: Server, count: int) -> list[int]:
    """How long the file was after each write: the ends of what one sync wrote."""
    ends = []
    for number in range(count):
        step, _ = a_request(PARTITIONS, f"user-{number % 3}")
        assert isinstance(await world.log.commit(step), Committed)
        ends.append(redis.file.stat().st_size)
    return ends


async def test_wherever_the_end_of_the_file_is_cut_the_log_grows_whole_again(database_url: str) -> None:
    async with server(ALWAYS) as redis, world_on(redis.url, database_url) as world:
        ends = await sizes_after_each(world, redis, 5)
        await world.archive()
        before = await world.entries()
        whole = redis.file.read_bytes()
        assert len(whole) == ends[-1]
        for cut in sorted({at for end in ends[:-1] for at in (end - 1, end, end + 1)}):
            epoch = world.log.epoch
            await redis.kill()
            for old in (redis.folder / "appendonlydir").glob("*.incr.aof"):
                old.write_bytes(whole[:cut])
            await redis.start()
            await until_open(world)
            assert world.log.epoch != epoch, "it was seen"
            assert await world.entries() == before
        await world.order()
        positions = [entry.at.position for entry in await world.entries() if entry.partition == before[0].partition]
        assert positions == list(range(1, len(positions) + 1))


async def until_open(world: World) -> None:
    async def opened() -> bool:
        with suppress(LogUnavailable):
            await world.mended()
            return True
        return False

    await eventually(opened, what="the log is whole")


async def keeps_nothing(redis: Server) -> bool:
    said: dict[str, int] = await redis.say("INFO", "persistence")
    return said["aof_buffer_length"] == 0


@pytest.mark.parametrize(("options", "same"), [(ALWAYS, True), (EVERYSEC, False)], ids=["always", "everysec"])
async def test_after_a_restart_it_is_the_same_log_only_where_each_write_was_synced(
    database_url: str, options: Sequence[str], same: bool
) -> None:
    """Nothing is missing in either; but of the second nobody could know, and a position must not mean two events."""
    async with server(options) as redis, world_on(redis.url, database_url) as world:
        await world.order()
        before, epoch = await world.entries(), world.log.epoch
        # With everysec it keeps writes to itself for up to two seconds while the disk is busy, and a kill loses those.
        await eventually(lambda: keeps_nothing(redis), what="all is written to the file")
        await redis.kill()
        await redis.start()
        await until_open(world)
        assert await world.entries() == before
        assert (world.log.epoch == epoch) is same


async def test_a_replica_that_lagged_and_was_promoted_is_another_log_with_all_that_was_archived(
    database_url: str, claimed: Claims
) -> None:
    async with server(ALWAYS) as primary, server(ALWAYS) as replica:
        serving = [primary]
        async with proxy(lambda: serving[0].url) as way, world_on(address(way), database_url) as world:
            await primary.say("CONFIG", "SET", "port", way_in := claimed.free(LOOPBACK))
            await replica.say("REPLICAOF", LOOPBACK, way_in)
            await world.order()
            await eventually(lambda: same_offset(primary, replica), what="the replica has it")
            await replica.say("REPLICAOF", LOOPBACK, 1)  # nothing reaches it from now on
            archived = await world.order()
            await world.archive()
            before, epoch = await world.entries(), world.log.epoch
            lost = await world.order()

            await primary.kill()
            await replica.say("REPLICAOF", "NO", "ONE")
            serving[0] = replica
            way.reset_all()
            with pytest.raises(EventLogError):
                await world.order()
            await until_open(world)
            assert world.log.epoch != epoch
            assert await world.entries() == before
            assert await world.log.version(archived.order.id) == archived.order.version
            assert await world.log.find(lost.order.id) is None, "it was nowhere else"
            await world.order()


async def test_a_replica_that_missed_only_what_nobody_archived_is_another_log_too(
    database_url: str, claimed: Claims
) -> None:
    async with server(ALWAYS) as primary, server(ALWAYS) as replica:
        serving = [primary]
        async with proxy(lambda: serving[0].url) as way, world_on(address(way), database_url) as world:
            await primary.say("CONFIG", "SET", "port", way_in := claimed.free(LOOPBACK))
            await replica.say("REPLICAOF", LOOPBACK, way_in)
            await world.order()
            await world.archive()
            await eventually(lambda: same_offset(primary, replica), what="the replica has it")
            await replica.say("REPLICAOF", LOOPBACK, 1)
            before, epoch = await world.entries(), world.log.epoch
            await world.order()
            await primary.kill()
            await replica.say("REPLICAOF", "NO", "ONE")
            serving[0] = replica
            way.reset_all()
            await until_open(world)
            assert world.log.epoch != epoch, "its positions will be used again"
            assert await world.entries() == before


def address(way: Proxy) -> str:
    return f"redis://{LOOPBACK}:{way.port}/0"


async def same_offset(primary: Server, replica: Server) -> bool:
    ahead, behind = await primary.say("INFO", "replication"), await replica.say("INFO", "replication")
    linked: bool = behind["master_link_status"] == "up"
    return linked and bool(behind["slave_repl_offset"] == ahead["master_repl_offset"])


@pytest.mark.parametrize("options", [ALWAYS, EVERYSEC], ids=["always", "everysec"])
async def test_a_full_disk_under_redis_is_told_and_nothing_accepted_is_lost(
    database_url: str, options: Sequence[str]
) -> None:
    with throw_away_folders() as folders:
        async with small_disk(folders.data / "disk") as disk:
            redis = Server(folders.data, options, disk.inside, disk.folder)
            try:
                await redis.start()
                async with world_on(redis.url, database_url) as world:
                    await filled_up_and_emptied(world, redis, disk)
            finally:
                await redis.kill()


async def filled_up_and_emptied(world: World, redis: Server, disk: Disk) -> None:
    accepted = [await world.order()]
    disk.fill()
    for _ in range(1_000):
        made = await placed(world)
        if not made:
            break
        accepted.append(made)
    else:
        raise AssertionError("it took everything")
    disk.filler.unlink()
    if not await redis.lives():  # it ends rather than say that something is synced which is not
        await redis.start()
    await until_open(world)
    accepted.append(await eventually(lambda: placed(world), what="orders are taken again"))
    held = {entry.fields["subject"] for entry in await world.entries()}
    assert {made.order.id for made in accepted} <= held


async def placed(world: World) -> Snapshot | None:
    with suppress(EventLogError):
        return await world.order()
    return None
