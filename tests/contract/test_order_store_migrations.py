"""Migrations are applied once, in order, whole or not at all, and never change afterwards."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from libs.orders.migrate import MigrationError, migrate


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


@pytest.mark.parametrize("url", ["", "postgresql://me:hidden@127.0.0.1:1/none", "nonsense"])
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
