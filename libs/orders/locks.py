"""What only one process may do at a time."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from enum import IntEnum

from libs.orders.connection import POOLED_BY_TRANSACTION, Connection, StoreUnavailable, is_gone, told_as_unavailable
from libs.orders.store import OrderStore

WHO_SERVES = "SELECT pg_backend_pid()"
TRY_LOCK = "SELECT pg_try_advisory_lock($1)"
LOOKS = 5  # a pooler may serve us by the same connection for some statements, by chance


class Lock(IntEnum):
    """Any numbers, but always these."""

    REPAIR = 0x5377_4C67
    REBUILD = 0x5377_4C68
    PROJECTING = 0x5377_4C69


class Seat:
    """The place of the one writer: a lock, and the connection that holds it, over which alone it writes.

    A writer that loses the connection loses the lock and what it was writing together, so two never write at a time.
    """

    def __init__(self, store: OrderStore, lock: Lock) -> None:
        self._store, self._lock = store, lock
        self._held: Connection | None = None
        self._until_left = AsyncExitStack()

    async def take(self) -> bool:
        """Whether it is ours, now or already; another may have it.

        Raises:
            StoreUnavailable
        """
        if self._held and not is_gone(self._held):
            return True
        await self.aclose()
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._store.connection())
            if await self._is_shared(connection):
                raise StoreUnavailable(POOLED_BY_TRANSACTION)
            with _or_none(connection):
                free: bool = await connection.fetchval(TRY_LOCK, self._lock.value)
            if free:
                self._held, self._until_left = connection, stack.pop_all()
            return free

    async def _is_shared(self, connection: Connection) -> bool:
        """Whether others may be served between two of its statements, as some poolers do, and the lock be theirs."""
        pid: int = await connection.fetchval(WHO_SERVES)
        if pid == connection.get_server_pid():
            return False  # no pooler is in between
        for _ in range(LOOKS):
            async with self._store.connection() as other, other.transaction():
                elsewhere: int = await other.fetchval(WHO_SERVES)
                again: int = await connection.fetchval(WHO_SERVES)
            if pid == elsewhere or pid != again:
                return True
        return False

    async def aclose(self) -> None:
        """Leave it to another."""
        held, self._held = self._held, None
        if held and not is_gone(held):
            held.terminate()  # not given back to the pool: the lock goes with it
        await self._until_left.aclose()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """The one that holds the place; for one at a time.

        Raises:
            StoreUnavailable: the place is lost, or is from now on.
        """
        held = self._held
        if held is None or is_gone(held):
            raise StoreUnavailable("Postgres: the connection that held the projector's place is gone")
        try:
            with told_as_unavailable():
                yield held
        except StoreUnavailable:
            await self.aclose()
            raise


@asynccontextmanager
async def alone(store: OrderStore, lock: Lock, busy: str) -> AsyncIterator[None]:
    """Hold a lock of the database, as long as the connection lasts.

    Raises:
        StoreUnavailable: another process holds it; the text is `busy`.
    """
    async with store.connection() as connection:
        with _or_none(connection):
            free = await connection.fetchval(TRY_LOCK, lock.value)
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
