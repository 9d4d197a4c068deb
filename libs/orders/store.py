"""Orders, archive and checkpoints in Postgres: the one door to them.

StoreError
├── StoreUnavailable   Postgres, or its tables, are away: what was under way is in or not; try again
├── CheckpointMoved    another writer moved the checkpoint: nothing was written; stop loudly
└── BatchRefused       Postgres cannot hold these rows: nothing was written; stop loudly
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from libs.events.crash import crash_point, crossing
from libs.events.errors import LogMismatch
from libs.events.ids import Position
from libs.events.log import Entry
from libs.events.model import Envelope
from libs.events.order import Order
from libs.orders import sql
from libs.orders.batch import Batch
from libs.orders.folding import Folded, fold
from libs.orders.rows import EVENT_COLUMNS, ORDER_COLUMNS, columns, decode, entry_of, event_row, order_change, order_row

POOL_MAX = 8
CONNECT_TIMEOUT_S = 5
COMMAND_TIMEOUT_S = 30
CLOSE_TIMEOUT_S = 3  # a farewell a dead server will not answer
ORDERS = "orders"  # the live projection

Connection = asyncpg.pool.PoolConnectionProxy

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, or a primary that was demoted
    asyncpg.UndefinedTableError,  # migrations are on their way
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
)


class StoreError(Exception):
    """Anything the store raises."""


class StoreUnavailable(StoreError):
    """Nothing can be said of what was under way; reads may be repeated, a projection resumes."""


class CheckpointMoved(StoreError):
    """The checkpoint was not where this writer left it: somebody else writes the same projection."""


class BatchRefused(StoreError):
    """Rows that are there already, or values no column takes."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a projection is in one partition of one log."""

    epoch: str
    at: Position


class OrderStore:
    """Reads. Every method raises StoreUnavailable when Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def get(self, order_id: str) -> Order | None:
        """The order as projected, or None when it is not there (yet)."""
        async with self.connection() as connection:
            state = await connection.fetchval(sql.ORDER, UUID(order_id))
        return Order.model_validate_json(state) if state else None

    async def by_client_id(self, user: str, client_id: str) -> Order | None:
        """The newest projected order with this client order id."""
        async with self.connection() as connection:
            state = await connection.fetchval(sql.BY_CLIENT_ID, user, client_id)
        return Order.model_validate_json(state) if state else None

    async def get_many(self, order_ids: Sequence[str]) -> dict[str, Order]:
        """Those of them that are projected."""
        async with self.connection() as connection:
            return await _orders(connection, order_ids)

    async def newest(self, user: str, before: str | None, limit: int) -> list[Order]:
        """A user's orders, newest first, with ids below `before`."""
        async with self.connection() as connection:
            rows = await (
                connection.fetch(sql.NEWEST_BEFORE, user, UUID(before), limit)
                if before
                else connection.fetch(sql.NEWEST, user, limit)
            )
        return [Order.model_validate_json(row["state"]) for row in rows]

    async def history(self, order_id: str) -> list[tuple[Envelope, Position]]:
        """The order's archived events, in version order."""
        return [(entry.decode(), entry.at) for entry in await self.entries(order_id)]

    async def entries(self, order_id: str) -> list[Entry]:
        """The order's archived entries as they were in the log, in version order."""
        async with self.connection() as connection:
            return [entry_of(dict(row)) for row in await connection.fetch(sql.HISTORY, UUID(order_id))]

    async def archived(self, partition: int, after: int, count: int) -> list[Entry]:
        """Up to `count` archived entries of a partition beyond position `after`, as they were in the log."""
        async with self.connection() as connection:
            return [entry_of(dict(row)) for row in await connection.fetch(sql.ARCHIVED, partition, after, count)]

    async def checkpoints(self, projection: str = ORDERS) -> dict[int, Checkpoint]:
        """How far a projection is, by partition; empty before its first start."""
        async with self.connection() as connection:
            return _checkpoints(await connection.fetch(sql.CHECKPOINTS, projection))

    def projection(self, name: str = ORDERS, *, archives: bool = True) -> "Projection":
        """The writing side; there should be one per name, and one that archives."""
        return Projection(self, name, archives=archives)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection from the pool, with Postgres's absence told as StoreUnavailable."""
        try:
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
                yield connection
        except _AWAY as error:
            raise StoreUnavailable(f"Postgres: {error or type(error).__name__}") from error


class Projection:
    """The single writer of a projection: archive, orders and checkpoint in one transaction.

    After StoreUnavailable call `resume`: only the checkpoint knows whether the last batch went in.
    """

    def __init__(self, store: OrderStore, name: str, *, archives: bool = True) -> None:
        self._store = store
        self._name = name
        self._archives = archives
        self._folded = Folded()
        self._generation = 0

    async def resume(self, epoch: str, partitions: int) -> dict[int, Position]:
        """Where to read on, for each partition; the start for a projection that never ran.

        Raises:
            LogMismatch: the projection was made from another log.
        """
        self._folded.clear()
        async with self._store.connection() as connection, connection.transaction():
            await connection.execute(sql.START_CHECKPOINTS, self._name, epoch, list(range(partitions)))
            found = _checkpoints(await connection.fetch(sql.LOCK_CHECKPOINTS, self._name))
        for partition, checkpoint in found.items():
            if checkpoint.epoch != epoch:
                raise LogMismatch(
                    f"partition {partition}: Postgres holds the log of epoch {checkpoint.epoch} up to {checkpoint.at}, "
                    f"but the log now there has epoch {epoch}: Redis was emptied, restored or swapped for another. "
                    "Nothing was written. Bring the old log back, or give this one an empty database"
                )
        if len(found) != partitions:
            raise LogMismatch(
                f"the projection has {len(found)} partitions, the log {partitions}: set PARTITIONS to match"
            )
        return {partition: checkpoint.at for partition, checkpoint in found.items()}

    async def apply(self, epoch: str, batch: Batch) -> dict[int, Position]:
        """Archive and fold a batch and move the checkpoint, all or nothing; gives the new positions.

        Raises:
            StoreUnavailable: it went in or not; `resume`.
            CheckpointMoved, BatchRefused, LogMismatch, VersionGap: nothing was written; stop.
        """
        try:
            async with self._store.connection() as connection, connection.transaction():
                orders = await self.write(connection, epoch, batch)
                crash_point("projection.commit.before")
            crash_point("projection.commit.after")
            self._folded.keep(orders)
            return {**batch.after, **batch.until()}
        except (asyncpg.PostgresError, OverflowError, UnicodeError) as error:
            self._folded.clear()
            places = " to ".join(f"{entry.partition}:{entry.at}" for entry in (batch.entries[0], batch.entries[-1]))
            raise BatchRefused(f"{self._name}: Postgres refused the batch from {places}: {error}") from error
        except BaseException:
            self._folded.clear()
            raise

    async def write(self, connection: Connection, epoch: str, batch: Batch) -> dict[str, Order]:
        """`apply` in a transaction of the caller's; gives the orders as they are if it commits."""
        until = batch.until()
        events = [decode(entry) for entry in batch.entries]
        # First of all: a rival waits here for the row, then finds it moved, before either has done any work.
        with crossing("projection.checkpoint"):
            await self._move(connection, epoch, batch.after, until)
        known = await self._known(connection, events)
        orders = fold(known, events)
        if self._archives:
            rows = [event_row(entry, event, epoch) for entry, event in zip(batch.entries, events, strict=True)]
            await connection.copy_records_to_table("events", records=rows, columns=EVENT_COLUMNS)
        await self._write(connection, known, orders)
        return orders

    async def _move(
        self, connection: Connection, epoch: str, after: Mapping[int, Position], until: Mapping[int, Position]
    ) -> None:
        moves = [(partition, after[partition].position, at.ms, at.position) for partition, at in sorted(until.items())]
        moved = await connection.fetch(sql.MOVE_CHECKPOINTS, self._name, epoch, *columns(moves))
        if len(moved) != len(moves):
            raise CheckpointMoved(
                f"{self._name}: the checkpoint is not where this process left it ({after} of epoch {epoch}): "
                "another process writes the same projection"
            )
        generation = max(row["generation"] for row in moved)
        if generation != self._generation:
            # Other tables were put in the place of those this was folded from.
            self._folded.clear()
            self._generation = generation

    async def _write(self, connection: Connection, known: Mapping[str, Order], orders: Mapping[str, Order]) -> None:
        # Half the work of one INSERT ... ON CONFLICT, and stricter: each order must be where the fold began.
        begun = [order_row(order) for order_id, order in orders.items() if order_id not in known]
        if begun:
            await connection.copy_records_to_table("orders", records=begun, columns=ORDER_COLUMNS)
        went_on = [order_change(known[order_id].version, o) for order_id, o in orders.items() if order_id in known]
        if went_on:
            changed = await connection.execute(sql.CHANGE_ORDERS, *columns(went_on))
            if changed != f"UPDATE {len(went_on)}":
                raise CheckpointMoved(f"{self._name}: orders in Postgres are not at their checkpoint ({changed})")

    async def _known(self, connection: Connection, events: Sequence[Envelope]) -> dict[str, Order]:
        known = self._folded.known(event.subject for event in events)
        begun = {event.subject for event in events if event.version == 1}
        missing = {event.subject for event in events} - begun - known.keys()
        return known | (await _orders(connection, list(missing)) if missing else {})


@asynccontextmanager
async def open_store(dsn: str, schema: str = "public") -> AsyncIterator[OrderStore]:
    """The store behind `dsn`; connects on first use, so it may be opened while Postgres is away.

    `schema`: whose tables are meant by names that it has, such as those of a rebuild.
    """
    pool = await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=POOL_MAX,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        init=_begin_session,
        reset=_keep_session,
        server_settings={"search_path": schema if schema == "public" else f"{schema}, public"},
    )
    try:
        yield OrderStore(pool)
    finally:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await pool.close()
        except _AWAY:
            pool.terminate()


async def _begin_session(connection: asyncpg.Connection) -> None:
    await connection.execute(sql.SESSION)


async def _keep_session(_connection: asyncpg.Connection) -> None:
    """Nothing here changes a session, so nothing need be undone: a round trip less for every read."""


async def _orders(connection: Connection, order_ids: Sequence[str]) -> dict[str, Order]:
    rows = await connection.fetch(sql.ORDERS, [UUID(order_id) for order_id in order_ids])
    orders = (Order.model_validate_json(row["state"]) for row in rows)
    return {order.id: order for order in orders}


def _checkpoints(rows: Sequence[asyncpg.Record]) -> dict[int, Checkpoint]:
    return {row["partition"]: Checkpoint(row["epoch"], Position(row["ms"], row["position"])) for row in rows}
