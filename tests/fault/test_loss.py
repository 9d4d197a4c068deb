"""Stores that lose things, on the whole system: what was promised is there again, and orders go on by themselves."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from deploy.local import supervisor
from deploy.local.stack import Stack
from libs.events.errors import LogUnavailable
from libs.events.log import Entry
from libs.events.redis_log import open_redis_log
from libs.orders.store import open_store
from tests.checker import all_terminal, check_everything, whole_log
from tests.fault.traffic import FaultyClient, History, Watcher, signed_up_somehow
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

pytestmark = pytest.mark.asyncio(loop_scope="module")


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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "RESTART_FIRST_S", 0.02)
        patch.setattr(supervisor, "RESTART_FORGET_S", 0)
        folder = tmp_path_factory.mktemp("loss") / "data"
        async with Stack(folder, env=ENVIRONMENT, durable=True) as stack:
            history = History()
            async with signed_up_somehow(stack.base_url, history) as client:
                yield World(stack, client, history)


@asynccontextmanager
async def redis_of(world: World) -> AsyncIterator[Any]:
    async with Redis.from_url(world.stack.redis_url, decode_responses=True) as redis:
        yield redis


async def without_redis(world: World, harm: Callable[[Path], None]) -> None:
    """Kill Redis, do something to its files, and start it again."""
    await world.stack.stop("redis")
    await asyncio.to_thread(harm, world.redis_data)
    await world.stack.start("redis")


def grows(data: Path) -> Path:
    """The file that is written to."""
    return max((data / "appendonlydir").glob("*.incr.aof"))


def cut_tail(data: Path, synced: int) -> None:
    """What a machine that lost its power may leave of a file that was not synced: a write begun, and nothing after."""
    with grows(data).open("r+b") as file:
        file.truncate(synced + 11)


def forget(data: Path, _synced: int = 0) -> None:
    shutil.rmtree(data / "appendonlydir")


@pytest.mark.parametrize("harm", [cut_tail, forget], ids=["the end of its file", "all of it"])
async def test_redis_comes_back_without(world: World, harm: Callable[[Path, int], None]) -> None:
    synced = grows(world.redis_data).stat().st_size
    waiting = await world.some_that_wait()
    before, epoch = await world.whole(), await world.epoch()
    await without_redis(world, lambda data: harm(data, synced))
    assert await world.epoch() != epoch
    await holds_again(world, before)
    await world.ends_well(waiting)


async def test_redis_comes_back_as_it_was_some_time_ago(world: World, tmp_path: Path) -> None:
    await world.stack.stop("redis")
    await asyncio.to_thread(shutil.copytree, world.redis_data, tmp_path / "copy")
    await world.stack.start("redis")
    waiting = await world.some_that_wait()
    before, epoch = await world.whole(), await world.epoch()

    def bring_back(data: Path) -> None:
        forget(data)
        shutil.copytree(tmp_path / "copy" / "appendonlydir", data / "appendonlydir")

    await without_redis(world, bring_back)
    assert await world.epoch() != epoch
    await holds_again(world, before)
    await world.ends_well(waiting)


async def test_redis_is_emptied_under_everybody(world: World) -> None:
    watcher = Watcher(world.client.session, world.stack.base_url)
    watching = asyncio.create_task(watcher.run())
    try:
        waiting = await world.some_that_wait()
        await eventually(watcher.seen, what="a subscriber")
        before, epoch = await world.whole(), await world.epoch()
        async with redis_of(world) as redis:
            await redis.flushall()
        assert await world.epoch() != epoch
        await holds_again(world, before)
        await world.ends_well(waiting)

        def told() -> bool:
            said = [message["type"] for transcript in watcher.transcripts for message in transcript]
            return "reset" in said or len(watcher.transcripts) > 1

        await eventually(told, what="subscribers are told that they missed something")
        await eventually(lambda: set(waiting) <= set(watcher.seen()), what="subscribers see every order")
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def holds_again(world: World, before: list[Entry]) -> None:
    """Every event that was in the log is there, at its place, with its ids and versions."""

    async def there() -> bool:
        now = {(entry.partition, entry.at): dict(entry.fields) for entry in await whole_log(world.stack)}
        missing = [entry for entry in before if now.get((entry.partition, entry.at)) != dict(entry.fields)]
        assert not missing, f"{len(missing)} of {len(before)} missing or changed"
        return True

    await eventually(there, what="the log is whole", within_s=240)


async def test_redis_restarted_in_the_middle_loses_nothing(world: World) -> None:
    epoch = await world.epoch()
    placing = asyncio.create_task(world.place(20))
    for _ in range(3):
        await world.stack.kill("redis")
        await world.stack.until_ready("redis")
    orders = await placing
    assert await world.epoch() == epoch, "nothing was lost, so it is the same log"
    await world.ends_well(orders)


@asynccontextmanager
async def setting(world: World, name: str, value: str) -> AsyncIterator[None]:
    async with redis_of(world) as redis:
        before = (await redis.config_get(name))[name]
        await redis.config_set(name, value)
        try:
            yield
        finally:
            await redis.config_set(name, before)


@asynccontextmanager
async def read_only(world: World) -> AsyncIterator[None]:
    async with redis_of(world) as redis:
        await redis.replicaof("127.0.0.1", "1")
        try:
            yield
        finally:
            await redis.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    "trouble",
    [
        lambda world: setting(world, "maxmemory", "1"),
        lambda world: setting(world, "min-replicas-to-write", "1"),
        read_only,
    ],
    ids=["out of memory", "without its replicas", "read-only"],
)
async def test_redis_that_takes_nothing_is_told_and_waited_for(world: World, trouble: Any) -> None:
    placed = await world.place(3)
    async with trouble(world):

        async def refused() -> bool:
            status, answer = await world.client._ask(
                "place", "k", "POST", "/api/orders", {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1"}, {}
            )
            assert status == 503, (status, answer)
            assert answer["code"] in {"log_unavailable", "overloaded"}, answer
            assert answer["retryable"] is True
            return True

        await eventually(refused, what="orders are refused in words")
    await world.ends_well(placed)


async def test_scripts_that_redis_forgot_are_given_again(world: World) -> None:
    async with redis_of(world) as redis:
        await redis.script_flush()
    await world.ends_well(await world.place(3))


async def test_items_and_groups_that_are_gone_are_made_again(world: World) -> None:
    waiting = await world.some_that_wait()
    await world.stack.stop("router")
    more = await world.place(3)
    await world.archived()
    async with redis_of(world) as redis:
        works = [name async for name in redis.scan_iter("orders:*:work:*")]
        for name in works:
            await redis.xgroup_destroy(name, name.rpartition(":")[2])
        executors = [name for name in works if name.endswith(":executor")]
        for name in executors:
            await redis.xtrim(name, maxlen=0, approximate=False)
    await world.stack.start("router")
    await world.ends_well([*waiting, *more])


async def test_postgres_from_an_old_backup_catches_up(world: World, tmp_path: Path) -> None:
    await world.archived()
    await world.stack.stop("postgres")
    await asyncio.to_thread(shutil.copytree, world.postgres_data, tmp_path / "backup", copy_function=shutil.copy2)
    await world.stack.start("postgres")
    orders = await world.place()
    await all_terminal(world.stack, orders)
    await world.archived()
    await world.stack.stop("postgres")

    def restore() -> None:
        for path in world.postgres_data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(tmp_path / "backup", world.postgres_data, dirs_exist_ok=True)
        own = world.postgres_data.stat()
        for path in world.postgres_data.rglob("*"):
            shutil.chown(path, own.st_uid, own.st_gid)

    await asyncio.to_thread(restore)
    await world.stack.start("postgres")
    await world.ends_well(orders)


async def test_backends_of_postgres_ended_in_the_middle_lose_nothing(world: World) -> None:
    placing = asyncio.create_task(world.place(20))
    while not placing.done():
        admin = await asyncpg.connect(world.stack.database_url)
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        await admin.close()
        await asyncio.sleep(0.05)  # a little work must get done between two
    await world.ends_well(await placing)


async def test_orders_flow_without_postgres_and_are_archived_when_it_is_back(world: World) -> None:
    await world.stack.stop("postgres")
    orders = await world.place(20)
    await all_terminal(world.stack, orders)
    await world.stack.start("postgres")
    await world.ends_well(orders)
