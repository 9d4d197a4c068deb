"""The writing side: archive, orders and checkpoint in one transaction."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from libs.events.crash import crash_point, crossing
from libs.events.errors import LogMismatch
from libs.events.ids import Position
from libs.events.log import Entry
from libs.events.order import Order
from libs.orders import sql
from libs.orders.batch import Batch
from libs.orders.connection import REFUSED, BatchRefused, CheckpointMoved, Connection, Database, Row
from libs.orders.folding import Folded, fold
from libs.orders.leaves import Leaves
from libs.orders.rows import (
    EVENT_COLUMNS,
    ORDER_COLUMNS,
    columns,
    decode,
    event_row,
    is_order_id,
    order_change,
    order_row,
)

ENTRIES_PER_PIECE = 100  # of a large batch Postgres takes one piece while the next is decoded


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a projection is in one partition of one log."""

    epoch: str
    at: Position


class Projection:
    """The single writer of a projection.

    After StoreUnavailable call `resume`: only the checkpoint knows whether the last batch went in.
    """

    def __init__(self, database: Database, name: str, *, archives: bool = True) -> None:
        self._database = database
        self._name = name
        self._archives = archives
        self._folded = Folded()
        self._leaves = Leaves()
        self._generation = 0

    async def resume(self, epoch: str, partitions: int) -> dict[int, Position]:
        """Where to read on, for each partition; the start for a projection that never ran.

        Raises:
            LogMismatch: the projection was made from another log.
        """
        self._forget()
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(sql.START_CHECKPOINTS, self._name, epoch, list(range(partitions)))
            found = checkpoints_of(await connection.fetch(sql.LOCK_CHECKPOINTS, self._name))
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
            async with self._database.connection() as connection, connection.transaction():
                orders = await self.write(connection, epoch, batch)
                crash_point("projection.commit.before")
            crash_point("projection.commit.after")
            self._folded.keep(orders)
            return {**batch.after, **batch.until()}
        except REFUSED as error:
            self._forget()
            places = " to ".join(f"{entry.partition}:{entry.at}" for entry in (batch.entries[0], batch.entries[-1]))
            raise BatchRefused(f"{self._name}: Postgres refused the batch from {places}: {error}") from error
        except BaseException:
            self._forget()
            raise

    async def write(self, connection: Connection, epoch: str, batch: Batch) -> dict[str, Order]:
        """`apply` in a transaction of the caller's; gives the orders as they are if it commits."""
        until = batch.until()
        # First of all: a rival waits here for the row, then finds it moved, before either has done any work.
        with crossing("projection.checkpoint"):
            await self._move(connection, epoch, batch.after, until)
        known = await self._known(connection, batch.entries)
        orders: dict[str, Order] = {}
        if self._archives:
            positions = [entry.at.position for entry in batch.entries]
            await self._leaves.reach(connection, min(positions), max(positions))
            rows = _rows(batch.entries, epoch, known, orders)
            await connection.copy_records_to_table("events", records=rows, columns=EVENT_COLUMNS)
        else:
            fold(known, map(decode, batch.entries), orders)
        await self._write(connection, known, orders)
        return orders

    def _forget(self) -> None:
        self._folded.clear()
        self._leaves.clear()

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

    async def _known(self, connection: Connection, entries: Sequence[Entry]) -> dict[str, Order]:
        """The orders that went on, as they were; of entries that may yet turn out not to be events."""
        touched = {entry.fields.get("subject", "") for entry in entries}
        begun = {entry.fields.get("subject", "") for entry in entries if entry.fields.get("version") == "1"}
        known = self._folded.known(touched)
        missing = [order_id for order_id in touched - begun - known.keys() if is_order_id(order_id)]
        return known | (await orders_of(connection, missing) if missing else {})

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


async def _rows(
    entries: Sequence[Entry], epoch: str, known: Mapping[str, Order], orders: dict[str, Order]
) -> AsyncIterator[tuple[object, ...]]:
    """The archive's rows; folds into `orders` what is in them, while Postgres takes those before."""
    for start in range(0, len(entries), ENTRIES_PER_PIECE):
        piece = entries[start : start + ENTRIES_PER_PIECE]
        events = [decode(entry) for entry in piece]
        for entry, event in zip(piece, events, strict=True):
            yield event_row(entry, event, epoch)
        fold(known, events, orders)


async def orders_of(connection: Connection, order_ids: Iterable[str]) -> dict[str, Order]:
    """Those of them that are projected."""
    rows = await connection.fetch(sql.ORDERS, [UUID(order_id) for order_id in order_ids])
    orders = (Order.model_validate_json(row["state"]) for row in rows)
    return {order.id: order for order in orders}


def checkpoints_of(rows: Sequence[Row]) -> dict[int, Checkpoint]:
    """Rows of `sql.CHECKPOINTS`, by partition."""
    return {row["partition"]: Checkpoint(row["epoch"], Position(row["ms"], row["position"])) for row in rows}
