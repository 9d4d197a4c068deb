"""What the archive gives back when Redis lost something: the store's side of a repair."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from libs.events.log import Entry
from libs.events.order import Order
from libs.events.reactions import TERMINAL
from libs.orders import sql
from libs.orders.locks import Lock, alone
from libs.orders.named import orders_of
from libs.orders.rows import entry_of
from libs.orders.store import ORDERS, OrderStore

ORDERS_PER_PAGE = 200
NO_ORDER = UUID(int=0)


class Recovery:
    """Every method raises StoreUnavailable when Postgres does not answer."""

    def __init__(self, store: OrderStore) -> None:
        self._store = store

    def alone(self) -> AbstractAsyncContextManager[None]:
        """One repair at a time.

        Raises:
            StoreUnavailable: another process is at it.
        """
        return alone(self._store, Lock.REPAIR, "another projector checks the log")

    async def adopt(self, epoch: str, partitions: int) -> None:
        """All projections follow this log from now on; where they are stays."""
        async with self._store.connection() as connection, connection.transaction():
            await connection.execute(sql.START_CHECKPOINTS, ORDERS, epoch, list(range(partitions)))
            await connection.execute(sql.ADOPT_EPOCH, epoch)

    async def unfinished(self) -> AsyncIterator[dict[str, Order]]:
        """Every order that has not ended, in pages."""
        after = NO_ORDER
        ended = [status.value for status in TERMINAL]
        while True:
            async with self._store.connection() as connection:
                # No index tells open orders from ended ones (see the migration), so this may read the whole table.
                rows = await connection.fetch(sql.UNFINISHED, after, ended, ORDERS_PER_PAGE, timeout=None)
                orders = await orders_of(connection, rows)
            if not rows:
                return
            yield {order.id: order for order in orders}
            after = rows[-1]["id"]

    async def entries_of(self, order_ids: Sequence[str]) -> dict[str, list[Entry]]:
        """The archived entries of these orders, in version order."""
        async with self._store.connection() as connection:
            rows = await connection.fetch(sql.ENTRIES_OF, [UUID(order_id) for order_id in order_ids])
        found: dict[str, list[Entry]] = {}
        for row in rows:
            found.setdefault(str(row["order_id"]), []).append(entry_of(dict(row)))
        return found
