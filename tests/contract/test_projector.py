"""The projector follows the log into Postgres: everything once, whatever goes away, and loudly when it cannot."""

import asyncio

import asyncpg
import pytest
from structlog.testing import capture_logs

from libs.events.errors import LogUnavailable
from libs.events.redis_log import RedisLog, open_redis_log
from libs.events.upkeep import Pressure
from libs.orders import connection
from libs.orders.store import OrderStore, open_store
from libs.service.health import Health
from services.projector import janitor
from services.projector.handlers import READER, Projector
from services.projector.janitor import Janitor
from tests.builders import a_request, routing_started, then
from tests.contract.projector_rig import (
    PARTITIONS,
    StartedMemoryLog,
    assert_postgres_is_the_fold_of,
    caught_up,
    projecting,
)
from tests.folded import folded
from tests.journeys import JOURNEY, journey
from tests.waiting import eventually


async def test_postgres_becomes_the_fold_of_the_log_while_it_is_written(redis_log: RedisLog, store: OrderStore) -> None:
    async with projecting(redis_log, store):
        await asyncio.gather(*(journey(redis_log, f"user-{number % 11}") for number in range(60)))
        await eventually(lambda: caught_up(redis_log, store))
    await assert_postgres_is_the_fold_of(redis_log, store)


async def test_it_goes_on_where_the_last_process_stopped(redis_log: RedisLog, store: OrderStore) -> None:
    for _ in range(3):
        await journey(redis_log, "user-1")
        async with projecting(redis_log, store):
            await journey(redis_log, "user-2")
            await eventually(lambda: caught_up(redis_log, store))
    await assert_postgres_is_the_fold_of(redis_log, store)


async def test_postgres_backends_killed_again_and_again_lose_nothing(
    redis_log: RedisLog, store: OrderStore, direct: asyncpg.Connection
) -> None:
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> $1"
    kill = f"SELECT count(pg_terminate_backend(pid)) {others}"
    mine = direct.get_server_pid()
    async with projecting(redis_log, store):
        for number in range(4):
            await journey(redis_log, f"user-{number}")
            await eventually(lambda: direct.fetchval(kill, mine), what="a backend to kill")
        await journey(redis_log, "user-1")
        await eventually(lambda: caught_up(redis_log, store))
    await assert_postgres_is_the_fold_of(redis_log, store)


async def test_connections_to_redis_killed_again_and_again_lose_nothing(
    redis_log: RedisLog, redis_url: str, store: OrderStore
) -> None:
    async with open_redis_log(redis_url, PARTITIONS) as followed, projecting(followed, store):
        for number in range(3):
            await journey(redis_log, f"user-{number}")
            await eventually(lambda: caught_up(redis_log, store))
            await redis_log._redis.send([["CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal"]])
        await journey(redis_log, "user-1")
        await eventually(lambda: caught_up(redis_log, store))
    await assert_postgres_is_the_fold_of(redis_log, store)


async def test_it_reports_how_far_the_archive_is(direct: asyncpg.Connection, store: OrderStore) -> None:
    log = StartedMemoryLog()
    await journey(log, "user-1")
    async with projecting(log, store):
        tips = {partition: await log.tip(partition) for partition in range(PARTITIONS)}
        await eventually(lambda: log.registered.get(READER) == tips, what="the reader is registered at the end")


async def test_while_redis_is_away_it_waits_and_says_so(store: OrderStore) -> None:
    log, health = StartedMemoryLog(), Health("redis", "postgres")
    log.away = True
    async with projecting(log, store, health):
        await eventually(lambda: health.reasons.get("redis") == "away")
        log.away = False
        await journey(log, "user-1")
        await eventually(lambda: health.ready)
        await eventually(lambda: caught_up(log, store))
        log.away = True
        await eventually(lambda: not health.ready)
    await assert_postgres_is_the_fold_of(_back(log), store)


def _back(log: StartedMemoryLog) -> StartedMemoryLog:
    log.away = False
    return log


async def test_while_postgres_is_away_it_waits_and_says_so(direct: asyncpg.Connection) -> None:
    log, health = StartedMemoryLog(), Health("redis", "postgres")
    async with open_store("postgresql://nobody@127.0.0.1:1/none") as store, projecting(log, store, health):
        await eventually(lambda: health.reasons.get("postgres", "").startswith("Postgres:"))


async def test_before_the_tables_exist_it_waits(direct: asyncpg.Connection, store: OrderStore) -> None:
    log, health = StartedMemoryLog(), Health("redis", "postgres")
    await direct.execute("ALTER TABLE checkpoints RENAME TO not_yet")
    async with projecting(log, store, health):
        try:
            await eventually(lambda: "checkpoints" in health.reasons.get("postgres", ""))
        finally:
            await direct.execute("ALTER TABLE not_yet RENAME TO checkpoints")
        await eventually(lambda: health.ready)


async def test_events_of_a_later_release_are_archived_and_pass(redis_log: RedisLog, store: OrderStore) -> None:
    step, snapshot = a_request(PARTITIONS)
    await redis_log.commit(step)
    step, snapshot = then(snapshot, routing_started())
    strange = step.events[0].model_copy(update={"v": 9})
    await redis_log.commit(type(step)(step.order_id, step.user, 1, (strange,), snapshot.order))
    async with projecting(redis_log, store):
        await eventually(lambda: caught_up(redis_log, store))
    await assert_postgres_is_the_fold_of(redis_log, store)


@pytest.mark.parametrize(
    "code",
    ["53100", "53200", "57P03", "40001", "40P01", "25006", "42501", "58030", "58P01"],
    ids=lambda code: f"SQLSTATE {code}",
)
async def test_a_postgres_that_cannot_write_is_told_and_waited_for(
    redis_log: RedisLog, store: OrderStore, direct: asyncpg.Connection, code: str
) -> None:
    """A full disk, no memory, starting, a rival's transaction, a standby, a disk that is read-only (or a user without
    rights), one that fails, a file that is gone: from the wire on each is real.
    """
    await direct.execute(
        f"""
        CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION refuse()"""
    )
    health = Health("redis", "postgres")
    try:
        await journey(redis_log, "user-1")
        async with projecting(redis_log, store, health):
            await eventually(lambda: "not now" in health.reasons.get("postgres", ""), what="it says so")
            await direct.execute("DROP TRIGGER refuse ON events")
            await journey(redis_log, "user-2")
            await eventually(lambda: caught_up(redis_log, store), what="it goes on")
            await eventually(lambda: health.ready)
        await assert_postgres_is_the_fold_of(redis_log, store)
    finally:
        await direct.execute("DROP FUNCTION refuse CASCADE")


async def test_while_postgres_is_locked_nothing_is_trimmed_that_it_has_not(
    redis_log: RedisLog, database_url: str, direct: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "COMMAND_TIMEOUT_S", 0.5)
    monkeypatch.setattr(janitor, "SWEEP_EVERY_S", 0)
    await redis_log._redis.send([["CONFIG", "SET", "stream-node-max-entries", 2]])
    health, stop = Health("redis", "postgres"), asyncio.Event()
    try:
        async with open_store(database_url) as store:
            await journey(redis_log, "user-1")
            sweeper = Janitor(redis_log, keep_s=-1, memory_max_bytes=2**40)
            running = asyncio.create_task(Projector(redis_log, store.projection(), health, janitor=sweeper).run(stop))
            await eventually(lambda: caught_up(redis_log, store))
            before = await store.checkpoints()
            async with direct.transaction():
                await direct.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
                await asyncio.gather(*(journey(redis_log, f"user-{number}") for number in range(20)))
                await eventually(lambda: "postgres" in health.reasons, what="it says so")
                await sweeper.sweep({partition: point.at for partition, point in before.items()})
                read = await redis_log.read({partition: point.at for partition, point in before.items()}, 1_000, 0)
                assert len(read) == 20 * (len(JOURNEY) + 1), "all that is not archived is in the log"
                assert await store.checkpoints() == before
            await eventually(lambda: caught_up(redis_log, store), what="it catches up")
            stop.set()
            await running
            archived = [e for partition in range(PARTITIONS) for e in await store.archived(partition, 0, 1_000)]
            assert len(archived) == 21 * (len(JOURNEY) + 1)
            orders = folded(archived)
            assert await store.get_many(list(orders)) == orders
    finally:
        await redis_log._redis.send([["CONFIG", "SET", "stream-node-max-entries", 100]])


async def test_what_was_about_to_be_let_go_is_when_it_ends(redis_log: RedisLog, store: OrderStore) -> None:
    """The next one would not know of it, and each restart leave the orders of a minute as they were for a day."""
    stop = asyncio.Event()
    sweeper = Janitor(redis_log, keep_s=3_600, memory_max_bytes=2**40)
    projector = Projector(redis_log, store.projection(), Health("redis", "postgres"), janitor=sweeper)
    running = asyncio.create_task(projector.run(stop))
    order_id = (await journey(redis_log, "user-1")).order.id
    await eventually(lambda: caught_up(redis_log, store))
    assert await redis_log.find(order_id), "who placed it asks for it most often now"
    stop.set()
    await running
    assert await redis_log.find(order_id) is None


async def test_that_nothing_is_trimmed_is_said(
    redis_log: RedisLog, store: OrderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused() -> Pressure:
        raise LogUnavailable("NOPERM this user has no permissions to run the 'info' command")

    monkeypatch.setattr(janitor, "SWEEP_EVERY_S", 0.0)
    monkeypatch.setattr(redis_log, "pressure", refused)
    sweeper, stop = Janitor(redis_log, keep_s=0, memory_max_bytes=2**40), asyncio.Event()
    with capture_logs() as said:
        projector = Projector(redis_log, store.projection(), Health("redis", "postgres"), janitor=sweeper)
        running = asyncio.create_task(projector.run(stop))
        await eventually(
            lambda: [line for line in said if "NOPERM" in line.get("reason", "")], what="why not", within_s=20
        )
        stop.set()
        await running
