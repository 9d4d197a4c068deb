"""Brings the database's tables to this release: `python -m libs.orders.migrate` with DATABASE_URL set.

Migrations are the .sql files beside this module, applied in the order of their names, one transaction each, once. A
released file never changes; a change of tables is a new file, and one that the release before can live with.
"""

import asyncio
import os
import sys
from hashlib import sha256
from pathlib import Path

import asyncpg

from libs.orders import sql
from libs.orders.connection import connect

MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_TIMEOUT_S = 10
EXIT_USAGE = 2

# Any constant will do, as long as every process that migrates uses the same one.
_LOCK = 0x5377_6170_6C6F_6701

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


class MigrationError(Exception):
    """The tables could not be brought to this release; the text is one line for an operator."""


async def migrate(dsn: str, folder: Path = MIGRATIONS) -> list[str]:
    """Apply what is missing; gives the names applied, in order. Safe to call from many processes at once.

    Raises:
        MigrationError: the database cannot be reached, a migration failed (it left nothing), or an applied one differs.
    """
    scripts = await asyncio.to_thread(_scripts, folder)
    try:
        connection = await connect(dsn, timeout=CONNECT_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
        raise MigrationError(f"cannot reach the database: {str(error) or type(error).__name__}") from None
    except ValueError:
        # What it could not read may be a piece of the password.
        raise MigrationError("DATABASE_URL cannot be read; in a password / ? # @ are written %2F %3F %23 %40") from None
    try:
        await connection.execute(sql.SILENCE)
        # Held by the session: whoever comes second waits here and then finds nothing to do.
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        return await _apply(connection, scripts)
    except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
        raise MigrationError(f"the database gave up: {str(error) or type(error).__name__}") from error
    finally:
        await connection.close()


def _scripts(folder: Path) -> dict[str, str]:
    return {file.stem: file.read_text("utf-8") for file in sorted(folder.glob("*.sql"))}


async def _apply(connection: asyncpg.Connection, scripts: dict[str, str]) -> list[str]:
    await connection.execute(_LEDGER)
    rows = await connection.fetch("SELECT name, checksum FROM schema_migrations")
    done: dict[str, str] = {row["name"]: row["checksum"] for row in rows}
    applied: list[str] = []
    for name, script in scripts.items():
        checksum = sha256(script.encode()).hexdigest()
        if name not in done:
            await _run(connection, name, script, checksum)
            applied.append(name)
        elif done[name] != checksum:
            raise MigrationError(f"migration {name} was changed after it was applied: restore it and add a new one")
    return applied


async def _run(connection: asyncpg.Connection, name: str, script: str, checksum: str) -> None:
    try:
        async with connection.transaction():
            await connection.execute(script)
            await connection.execute("INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)", name, checksum)
    except asyncpg.PostgresError as error:
        raise MigrationError(f"migration {name} failed and left nothing behind: {error}") from error


def main() -> None:
    """The command."""
    dsn = os.environ.get("DATABASE_URL", "")
    try:
        if not dsn:
            raise MigrationError("DATABASE_URL is not set")
        applied = asyncio.run(migrate(dsn))
    except MigrationError as error:
        sys.stderr.write(f"migrate: {error}\n")
        sys.exit(EXIT_USAGE)
    sys.stdout.write(f"applied {', '.join(applied)}\n" if applied else "nothing to apply\n")


if __name__ == "__main__":
    main()
