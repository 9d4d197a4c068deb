"""Stores that lose things, on the whole system: what was promised is there again, and orders go on by themselves."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from libs.events.log import Entry
from tests.checker import all_terminal, whole_log
from tests.fault.stores_rig import World, redis_of, system_of
from tests.fault.traffic import Watcher
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with system_of(tmp_path_factory.mktemp("loss") / "data") as made:
        yield made


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
