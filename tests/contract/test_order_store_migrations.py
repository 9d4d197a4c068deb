"""Migrations are applied once, in order, whole or not at all, and never change afterwards."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import asyncpg
import pytest

from deploy.local.stores import Store
from libs.events.ids import START, Position
from libs.events.log import Entry
from libs.events.order import Order
from libs.orders.batch import Batch
from libs.orders.migrate import MIGRATIONS, MigrationError, migrate
from libs.orders.rebuild import rebuild
from libs.orders.rows import EVENT_COLUMNS, decode, event_row
from libs.orders.store import StoreUnavailable, open_store
from tests.contract.order_store_rig import PARTITIONS, a_log
from tests.folded import folded
from tests.servers import fresh_database


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()
    return {row["tablename"] for row in rows}


async def test_the_tables_are_there_and_a_second_run_finds_nothing_to_do(database_url: str) -> None:
    assert {"users", "events", "orders", "checkpoints"} <= await tables(database_url)
    assert await migrate(database_url) == []


async def test_of_many_that_migrate_at_once_one_does_the_work(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "0002_second.sql").write_text("ALTER TABLE race ADD COLUMN b int")
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE race (a int)")
    results = await asyncio.gather(*(migrate(database_url, tmp_path) for _ in range(5)))
    assert sorted(results) == [[], [], [], [], ["0001_first", "0002_second"]]


async def test_a_changed_migration_is_refused(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "0001_changed.sql"
    file.write_text("CREATE TABLE changed (a int)")
    await migrate(database_url, tmp_path)
    file.write_text("CREATE TABLE changed (a bigint)")
    with pytest.raises(MigrationError, match="0001_changed was changed after it was applied"):
        await migrate(database_url, tmp_path)


async def test_a_failing_migration_leaves_nothing_and_may_be_mended(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "0001_mended.sql"
    file.write_text("CREATE TABLE mended (a int); SELECT 1 / 0")
    with pytest.raises(MigrationError, match="0001_mended failed and left nothing behind: division by zero"):
        await migrate(database_url, tmp_path)
    assert "mended" not in await tables(database_url)
    file.write_text("CREATE TABLE mended (a int)")
    assert await migrate(database_url, tmp_path) == ["0001_mended"]


@pytest.mark.parametrize(
    "url", ["", "postgresql://me:hidden@127.0.0.1:1/none", "nonsense", "postgresql://me:x@x:hidden@127.0.0.1/none"]
)
def test_an_unusable_address_is_one_line_and_exit_code_2(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "libs.orders.migrate"],
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("migrate: ")
    assert "hidden" not in done.stderr


ORDERS_OF_BEFORE = """
INSERT INTO orders (
    id, user_id, version, status, token_in, token_out, amount_in, amount_out, created_at, updated_at, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '{}')"""


@pytest.fixture
def empty_database(postgres_store: Store) -> Iterator[str]:
    with fresh_database(postgres_store.url, "template0") as url:
        yield url


async def test_orders_of_before_name_their_events_and_go_on(empty_database: str, tmp_path: Path) -> None:
    await _migrate_before("0008", empty_database, tmp_path)
    entries = await a_log(6)
    before = _on_from(dict.fromkeys(range(PARTITIONS), START), [e for e in entries if e.fields["version"] <= "4"])
    await _project_as_before(empty_database, before)
    assert await migrate(empty_database) == ["0008_orders_name_their_events"]
    async with open_store(empty_database) as store:
        assert await store.get_many(list(folded(before))) == folded(before)
        projection = store.projection()
        at = await projection.resume("e1", PARTITIONS)
        await projection.apply("e1", Batch(at, _on_from(at, [e for e in entries if e.fields["version"] > "4"])))
        assert await store.get_many(list(folded(entries))) == folded(entries)
    assert (await rebuild(empty_database)).differing == 0


async def test_who_comes_before_the_migration_waits_for_it(empty_database: str, tmp_path: Path) -> None:
    """As for the first one: an upgrade that starts services and migration together stops no projector."""
    await _migrate_before("0008", empty_database, tmp_path)
    entries = await a_log(1)
    async with open_store(empty_database) as store:
        projection = store.projection()
        at = await projection.resume("e1", PARTITIONS)
        with pytest.raises(StoreUnavailable, match="latest"):
            await projection.apply("e1", Batch(at, entries))
        with pytest.raises(StoreUnavailable, match="latest"):
            await store.get_many(list(folded(entries)))
        await migrate(empty_database)
        await projection.apply("e1", Batch(await projection.resume("e1", PARTITIONS), entries))
        assert await store.get_many(list(folded(entries))) == folded(entries)


async def test_what_a_machine_that_is_gone_was_migrating_holds_up_nobody_for_hours(
    empty_database: str, tmp_path: Path
) -> None:
    """Who comes next waits for its lock: Postgres asks a silent session by itself after two hours."""
    asked = "SELECT name FROM pg_settings WHERE name LIKE 'tcp_%' AND source = 'session'"
    (tmp_path / "0001_asked.sql").write_text(f"CREATE TABLE asked AS {asked}")
    await migrate(empty_database, tmp_path)
    connection = await asyncpg.connect(empty_database)
    assert await connection.fetchval("SELECT count(*) FROM asked") == 4
    await connection.close()


async def _migrate_before(name: str, url: str, folder: Path) -> None:
    for script in MIGRATIONS.glob("*.sql"):
        if script.name < name:
            shutil.copy(script, folder)
    await migrate(url, folder)


async def _project_as_before(url: str, entries: Sequence[Entry]) -> None:
    connection = await asyncpg.connect(url)
    rows = [event_row(entry, decode(entry), "e1") for entry in entries]
    await connection.copy_records_to_table("events", records=rows, columns=EVENT_COLUMNS)
    await connection.executemany(ORDERS_OF_BEFORE, [_as_before(order) for order in folded(entries).values()])
    ends = dict.fromkeys(range(PARTITIONS), START) | {entry.partition: entry.at for entry in entries}
    points = [("orders", partition, "e1", at.ms, at.position) for partition, at in ends.items()]
    await connection.executemany("INSERT INTO checkpoints VALUES ($1, $2, $3, $4, $5)", points)
    await connection.close()


def _on_from(after: Mapping[int, Position], entries: Sequence[Entry]) -> list[Entry]:
    """The same, with no place left out."""
    last = dict(after)
    moved: list[Entry] = []
    for entry in entries:
        last[entry.partition] = Position(entry.at.ms, last[entry.partition].position + 1)
        moved.append(Entry(entry.partition, last[entry.partition], entry.fields))
    return moved


def _as_before(order: Order) -> tuple[object, ...]:
    kept = (order.token_in, order.token_out, order.amount_in, order.amount_out, order.created_at, order.updated_at)
    return (order.id, order.user, order.version, order.status.value, *kept)


async def test_the_tables_are_where_the_services_look_for_them(database_url: str, tmp_path: Path) -> None:
    """Whoever has a schema of his own, or a path set for him, would find them there, and nobody else."""
    connection = await asyncpg.connect(database_url)
    me = await connection.fetchval("SELECT current_user")
    await connection.execute(f'CREATE SCHEMA "{me}"')
    try:
        (tmp_path / "0001_mine.sql").write_text("CREATE TABLE mine (a int)")
        await migrate(database_url, tmp_path)
        assert "mine" in await tables(database_url)
    finally:
        await connection.execute(f'DROP SCHEMA "{me}" CASCADE')
        await connection.close()
