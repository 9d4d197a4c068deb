"""Orders, archive and checkpoints in Postgres, as everybody but the projector sees them: to be read."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from uuid import UUID

from libs.events.envelope import Envelope
from libs.events.ids import Position
from libs.events.log import Entry
from libs.events.model import Status
from libs.events.order import Order
from libs.orders import sql
from libs.orders.connection import (
    BatchRefused,
    CheckpointMoved,
    Connection,
    Connects,
    Database,
    StoreBehind,
    StoreError,
    StoreUnavailable,
    open_database,
)
from libs.orders.listed import Listed, listed_row
from libs.orders.named import orders_of
from libs.orders.projection import Checkpoint, Projection, checkpoints_of
from libs.orders.refolding import Refolding
from libs.orders.rows import entry_of

__all__ = [
    "BatchRefused",
    "Checkpoint",
    "CheckpointMoved",
    "Connection",
    "OrderStore",
    "Projection",
    "StoreBehind",
    "StoreError",
    "StoreUnavailable",
    "open_store",
]  # fmt: skip

ORDERS = "orders"  # the live projection


class OrderStore:
    """Reads. Every method raises StoreUnavailable when Postgres does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, order_id: str) -> Order | None:
        """The order as projected, or None when it is not there (yet)."""
        return (await self.get_many([order_id])).get(order_id)

    async def by_client_id(self, user: str, client_id: str) -> Order | None:
        """The newest projected order with this client order id."""
        async with self._database.connection() as connection:
            found = await orders_of(connection, await connection.fetch(sql.BY_CLIENT_ID, user, client_id))
        return found[0] if found else None

    async def get_many(self, order_ids: Sequence[str]) -> dict[str, Order]:
        """Those of them that are projected."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(sql.ORDERS, [UUID(order_id) for order_id in order_ids])
            return {order.id: order for order in await orders_of(connection, rows)}

    async def newest(self, user: str, before: str | None, limit: int) -> list[Listed]:
        """A user's orders, newest first, with ids below `before`; those the archive let go of are listed too."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(sql.NEWEST_BEFORE, user, UUID(before) if before else sql.NEWEST_ID, limit)
            return [listed_row(row) for row in rows]

    async def quiet_since(self, at: datetime, statuses: Collection[Status], limit: int) -> list[str]:
        """Ids of orders in these statuses of which nothing was projected since, the longest quiet first."""
        wanted = [status.value for status in statuses]
        async with self._database.connection() as connection:
            # No index tells open orders from ended ones (see the migration), so this may read the whole table.
            rows = await connection.fetch(sql.QUIET_SINCE, wanted, at, limit, timeout=None)
            return [str(row["id"]) for row in rows]

    async def user_of(self, email: str) -> str | None:
        """Whose account has this email."""
        async with self._database.connection() as connection:
            found = await connection.fetch(sql.USER_OF_EMAIL, email.strip())
        return str(found[0]["id"]) if found else None

    async def history(self, order_id: str) -> list[tuple[Envelope, Position]]:
        """The order's archived events, in version order."""
        return [(entry.decode(), entry.at) for entry in await self.entries(order_id)]

    async def entries(self, order_id: str) -> list[Entry]:
        """The order's archived entries as they were in the log, in version order."""
        async with self._database.connection() as connection:
            return [entry_of(dict(row)) for row in await connection.fetch(sql.HISTORY, UUID(order_id))]

    async def archived(self, partition: int, after: int, count: int) -> list[Entry]:
        """Up to `count` archived entries of a partition beyond position `after`, as they were in the log."""
        async with self._database.connection() as connection:
            return [entry_of(dict(row)) for row in await connection.fetch(sql.ARCHIVED, partition, after, count)]

    async def checkpoints(self, projection: str = ORDERS) -> dict[int, Checkpoint]:
        """How far a projection is, by partition; empty before its first start."""
        async with self._database.connection() as connection:
            return checkpoints_of(await connection.fetch(sql.CHECKPOINTS, projection))

    def projection(self, name: str = ORDERS, through: Connects | None = None) -> Projection:
        """The writing side; there should be one, which a `Seat` to write `through` makes sure of."""
        return Projection(through or self._database, name)

    def refolding(self, name: str) -> Refolding:
        """The writing side of a rebuild."""
        return Refolding(self._database, name)

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """See `Database.connection`."""
        return self._database.connection()


@asynccontextmanager
async def open_store(dsn: str, schema: str = "public") -> AsyncIterator[OrderStore]:
    """The store behind `dsn`; see `open_database`."""
    async with open_database(dsn, schema) as database:
        yield OrderStore(database)
