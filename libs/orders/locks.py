"""What only one process may do at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum

from libs.orders.store import OrderStore, StoreUnavailable


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
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock.value):
            raise StoreUnavailable(f"Postgres: {busy}")
        try:
            yield
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", lock.value)
