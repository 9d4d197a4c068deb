"""Users in Postgres, and the one connection pool of the gateway."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
from uuid_utils import uuid7

from libs.events.crash import crossing
from libs.orders.connection import connect, keep_session
from services.gateway.limits import DATABASE_CONNECTIONS_MAX, DATABASE_TIMEOUT_S

Connection = asyncpg.pool.PoolConnectionProxy

# What tells that Postgres is away, or is not the database we need.
DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


class EmailTaken(Exception):
    """Another account has this email."""


class DatabaseUnavailable(Exception):
    """Postgres could not answer; the same call may succeed later."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user as kept here."""

    user_id: str
    password_hash: str


class Accounts:
    """Who may sign in. Emails are in normal form."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def create(self, email: str, name: str | None, password_hash: str) -> str:
        """Make an account; gives its user id.

        Raises:
            EmailTaken, DatabaseUnavailable
        """
        made = await self.row(
            "INSERT INTO users (id, email, name, password_hash) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (email) DO NOTHING RETURNING id",
            str(uuid7()),
            email,
            name,
            password_hash,
        )
        if made is None:
            raise EmailTaken(email)
        return str(made["id"])

    async def find(self, email: str) -> Account | None:
        """Raises DatabaseUnavailable."""
        row = await self.row("SELECT id, password_hash FROM users WHERE email = $1", email)
        return Account(str(row["id"]), row["password_hash"]) if row else None

    async def change_password(self, account: Account, password_hash: str) -> bool:
        """Its sessions are over with the old one. False: it has another password by now, and keeps that.

        Raises:
            DatabaseUnavailable
        """
        change = "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2 RETURNING id"
        async with self._connection() as connection, connection.transaction():
            changed = await connection.fetchval(change, account.user_id, account.password_hash, password_hash)
            if changed:  # a statement of its own: it sees sessions that the change had to wait for
                await connection.execute("DELETE FROM sessions WHERE user_id = $1", changed)
        return changed is not None

    async def check(self) -> None:
        """Raises DatabaseUnavailable when Postgres is away or its tables are not there yet."""
        await self.row("SELECT id FROM users LIMIT 1")

    async def row(self, statement: str, *values: object) -> asyncpg.Record | None:
        """The first row of one statement. Raises DatabaseUnavailable."""
        rows = await self.rows(statement, *values)
        return rows[0] if rows else None

    async def row_alone(self, user: str, statement: str, *values: object) -> asyncpg.Record | None:
        """`row`, for each user one at a time: what it counts does not change before it writes.

        Raises:
            DatabaseUnavailable
        """
        async with self._connection() as connection, connection.transaction():
            await connection.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", user)
            return await connection.fetchrow(statement, *values)

    async def rows(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """All rows of one statement. Raises DatabaseUnavailable."""
        async with self._connection() as connection:
            return await connection.fetch(statement, *values)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            with crossing("accounts.query"):
                async with self._pool.acquire(timeout=DATABASE_TIMEOUT_S) as connection:
                    try:
                        yield connection
                    except asyncpg.ReadOnlySQLTransactionError:
                        # A primary that was demoted: its name may lead to another, this connection never would.
                        connection.terminate()
                        raise
        except DATABASE_ERRORS as error:
            raise DatabaseUnavailable(str(error) or type(error).__name__) from error


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool that connects when first used: Postgres may be away now."""
    pool = asyncpg.create_pool(
        url,
        min_size=0,
        max_size=DATABASE_CONNECTIONS_MAX,
        timeout=DATABASE_TIMEOUT_S,
        command_timeout=DATABASE_TIMEOUT_S,
        connect=connect,
        reset=keep_session,
    )
    async with pool:
        yield pool
