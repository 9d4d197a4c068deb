"""What only one process may do at a time."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import IntEnum

from libs.orders.store import Connection, OrderStore, StoreUnavailable


class Lock(IntEnum):
    """Any numbers, but always these."""

    REPAIR = 0x5377_4C67
    REBUILD = 0x5377_4C68


@asynccontextmanager
async def alone(store: OrderStore, lock: Lock, busy: str) -> AsyncIterator[None]:
    """Hold a lock of the database, as long as the connection lasts.

    Raises:
        StoreUnavailable: another process holds it; the text is `busy`.
    """
    async with store.connection() as connection:
        with _or_none(connection):
            free = await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock.value)
        if not free:
            raise StoreUnavailable(f"Postgres: {busy}")
        try:
            yield
        finally:
            with _or_none(connection):
                await connection.execute("SELECT pg_advisory_unlock($1)", lock.value)


@contextmanager
def _or_none(connection: Connection) -> Iterator[None]:
    """A call that fails may leave the lock with a connection that would go back to the pool, held for ever."""
    try:
        yield
    except BaseException:
        connection.terminate()
        raise
