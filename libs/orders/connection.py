"""Postgres as this package sees it: a pool of connections, and few errors.

StoreError
├── StoreUnavailable   Postgres, or its tables, are away: what was under way is in or not; try again
│   └── StoreBehind    it is there, but the projection lags too far behind for what was asked
├── CheckpointMoved    another writer moved the checkpoint: nothing was written; stop loudly
└── BatchRefused       Postgres cannot hold these rows: nothing was written; stop loudly
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

import asyncpg

from libs.orders import sql

POOL_MAX = 8
CONNECT_TIMEOUT_S = 5
COMMAND_TIMEOUT_S = 30
CLOSE_TIMEOUT_S = 3  # a farewell a dead server will not answer

Connection = asyncpg.pool.PoolConnectionProxy
Row = asyncpg.Record

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InsufficientPrivilegeError,  # rights that somebody forgot to grant, or a disk that is read-only
    asyncpg.PostgresSystemError,  # a disk that fails, files that are gone
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, or a primary that was demoted
    asyncpg.UndefinedTableError,  # migrations are on their way
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
)


POOLED_BY_TRANSACTION = (
    "Postgres: DATABASE_URL leads to a pooler that gives each transaction another connection, so that neither "
    "locks nor settings last: let it pool sessions (pool_mode = session), or leave it out"
)

# After these the next host of several is tried.
_NOT_THIS_HOST = (OSError, asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched)

# What Postgres, or its driver, says of values no column takes.
REFUSED = (asyncpg.PostgresError, OverflowError, UnicodeError)


class StoreError(Exception):
    """Anything the store raises."""


class StoreUnavailable(StoreError):
    """Nothing can be said of what was under way; reads may be repeated, a projection resumes."""


class StoreBehind(StoreUnavailable):
    """The projection lags too far behind the log for what was asked; it catches up by itself."""


class CheckpointMoved(StoreError):
    """The checkpoint was not where this writer left it: somebody else writes the same projection."""


class BatchRefused(StoreError):
    """Rows that are there already, or values no column takes."""


async def connect(
    dsn: str | None = None, *, timeout: float = CONNECT_TIMEOUT_S, schema: str = "public", **options: Any
) -> asyncpg.Connection:
    """The driver's own, but a host of several that stays silent leaves time to those behind it.

    It has one limit for all of them together, which a machine that is gone uses up. `schema`: where names are looked
    up before the public one, whatever this user has set; said afterwards, because poolers let nobody begin with it.
    """
    connection = await _connected(dsn, timeout, options)
    try:
        await connection.execute(f"SET search_path = {schema if schema == 'public' else f'{schema}, public'}")
    except BaseException:
        # A pooler may hold it up here. Given up, it must not be served later, as a connection that nobody has.
        connection.terminate()
        raise
    return connection


async def _connected(dsn: str | None, timeout: float, options: Mapping[str, Any]) -> asyncpg.Connection:
    now = asyncio.get_running_loop().time
    until, hosts = now() + timeout, _each_host_alone(dsn or "")
    while True:
        share_s = (until - now()) / len(hosts)
        try:
            return await asyncpg.connect(hosts.pop(0), timeout=share_s, **options)
        except _NOT_THIS_HOST:
            if not hosts:
                raise


def _each_host_alone(dsn: str) -> list[str]:
    parts = urlsplit(dsn)
    who, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [dsn]
    return [parts._replace(netloc=f"{who}{at}{host}").geturl() for host in hosts.split(",")]


class Connects(Protocol):
    """Gives a connection for some statements; raises StoreUnavailable."""

    def connection(self) -> AbstractAsyncContextManager[Connection]: ...


@contextmanager
def told_as_unavailable() -> Iterator[None]:
    """Whatever tells that Postgres is away."""
    try:
        yield
    except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError) as error:
        raise StoreUnavailable(POOLED_BY_TRANSACTION) from error
    except _AWAY as error:
        raise StoreUnavailable(f"Postgres: {str(error) or type(error).__name__}") from error


def is_gone(connection: Connection) -> bool:
    """Whether it was closed. The pool may have it back by then, and the driver says so by an error alone."""
    with suppress(asyncpg.InterfaceError):
        return bool(connection.is_closed())
    return True


class Database:
    """Connections to one database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection from the pool, with Postgres's absence told as StoreUnavailable."""
        with told_as_unavailable():
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
                try:
                    yield connection
                except asyncpg.ReadOnlySQLTransactionError:
                    # The name may lead to another by now, and this connection, as long as it is used, never would.
                    connection.terminate()
                    raise


@asynccontextmanager
async def open_database(dsn: str, schema: str = "public") -> AsyncIterator[Database]:
    """The database behind `dsn`; connects on first use, so it may be opened while Postgres is away.

    `schema`: whose tables are meant by names that it has, such as those of a rebuild.
    """
    pool = await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=POOL_MAX,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        connect=partial(connect, schema=schema),
        init=_begin_session,
        reset=keep_session,
    )
    try:
        yield Database(pool)
    finally:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await pool.close()
        except _AWAY:
            pool.terminate()


async def _begin_session(connection: asyncpg.Connection) -> None:
    await connection.execute(sql.SESSION)


async def keep_session(_connection: asyncpg.Connection) -> None:
    """Nothing here changes a session, so nothing need be undone: a round trip less for every read."""
