"""The writing side: archive, orders and checkpoint in one transaction."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Generic, TypeVar
from uuid import UUID

from libs.events.crash import crash_point, crossing
from libs.events.errors import LogMismatch
from libs.events.ids import Position
from libs.orders import sql
from libs.orders.batch import Batch, Stretch
from libs.orders.connection import REFUSED, BatchRefused, CheckpointMoved, Connection, Connects, Row
from libs.orders.copy_text import DELIMITER, NULL, line_of, text_of
from libs.orders.folding import Fold, Folded, Outline
from libs.orders.leaves import Leaves, trouble_ahead
from libs.orders.lines import LINE_COLUMNS, Lines
from libs.orders.named import outlines_of
from libs.orders.rows import EVENT_COLUMNS, ORDER_COLUMNS, columns, is_order_id


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a projection is in one partition of one log."""

    epoch: str
    at: Position


Piece = TypeVar("Piece", bound=Stretch[Any])


class Writes(ABC, Generic[Piece]):
    """The single writer of orders and their checkpoint.

    After StoreUnavailable call `resume`: only the checkpoint knows whether the last batch went in.
    """

    def __init__(self, database: Connects, name: str) -> None:
        self._database = database
        self._name = name
        self._folded = Folded()
        self._leaves = Leaves()
        self._generation = 0

    @abstractmethod
    def _touched(self, batch: Piece) -> tuple[set[str], set[str]]:
        """Ids of the orders it touches, and of those that begin in it."""

    @abstractmethod
    async def _take(self, connection: Connection, epoch: str, batch: Piece, fold: Fold) -> None:
        """Fold it, and write what else it is written to."""

    async def resume(self, epoch: str, partitions: int) -> dict[int, Position]:
        """Where to read on, for each partition; the start for a projection that never ran.

        Raises:
            LogMismatch: the projection was made from another log.
        """
        self.forget()
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

    async def apply(self, epoch: str, batch: Piece) -> dict[int, Position]:
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
            self.forget()
            places = " to ".join(f"{entry.partition}:{entry.at}" for entry in (batch.entries[0], batch.entries[-1]))
            raise BatchRefused(f"{self._name}: Postgres refused the batch from {places}: {error}") from error
        except BaseException:
            self.forget()
            raise

    async def write(self, connection: Connection, epoch: str, batch: Piece) -> dict[str, Outline]:
        """`apply` in a transaction of the caller's; gives the orders as they are if it commits.

        To write more in the same transaction the caller has to `forget` first: what is known is as of the last commit.
        """
        until = batch.until()
        # First of all: a rival waits here for the row, then finds it moved, before either has done any work.
        with crossing("projection.checkpoint"):
            await self._move(connection, epoch, batch.after, until)
        fold = Fold(await self._known(connection, batch))
        await self._take(connection, epoch, batch, fold)
        await self._write(connection, fold)
        return fold.orders

    def forget(self) -> None:
        """Know nothing any more of what was written."""
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

    async def _known(self, connection: Connection, batch: Piece) -> dict[str, Outline]:
        """The orders that went on, as they were."""
        touched, begun = self._touched(batch)
        known = self._folded.known(touched)
        missing = [order_id for order_id in touched - begun - known.keys() if is_order_id(order_id)]
        if missing:
            rows = await connection.fetch(sql.ORDERS, [UUID(order_id) for order_id in missing])
            known |= await outlines_of(connection, rows)
        return known

    async def _write(self, connection: Connection, fold: Fold) -> None:
        # Half the work of one INSERT ... ON CONFLICT, and stricter: each order must be where the fold began.
        begun = {order_id: order for order_id, order in fold.orders.items() if order_id not in fold.known}
        if begun:
            await self._begin(connection, begun)
        went_on = [
            order.change(order_id, fold.known[order_id].version)
            for order_id, order in fold.orders.items()
            if order_id in fold.known
        ]
        if went_on:
            changed = await connection.execute(sql.CHANGE_ORDERS, *columns(went_on))
            if changed != f"UPDATE {len(went_on)}":
                raise CheckpointMoved(f"{self._name}: orders in Postgres are not at their checkpoint ({changed})")

    async def _begin(self, connection: Connection, orders: Mapping[str, Outline]) -> None:
        rows = [order.row(order_id) for order_id, order in orders.items()]
        nulls = sum(row.count(None) for row in rows)
        text = text_of(list(map(line_of, rows)), len(ORDER_COLUMNS), nulls)
        if text is None:
            await connection.copy_records_to_table("orders", records=rows, columns=ORDER_COLUMNS)
        else:
            source = BytesIO(text)
            await connection.copy_to_table(
                "orders", source=source, columns=ORDER_COLUMNS, delimiter=DELIMITER, null=NULL
            )


class Projection(Writes[Batch]):
    """The live one, which archives what it folds."""

    async def trouble_ahead(self) -> str:
        """Why it would have to wait at the end of the archive's last leaf; empty: it would not."""
        async with self._database.connection() as connection:
            return await trouble_ahead(connection)

    def _touched(self, batch: Batch) -> tuple[set[str], set[str]]:
        """Of entries that may yet turn out not to be events."""
        fields = [entry.fields for entry in batch.entries]
        begun = {one.get("subject", "") for one in fields if one.get("version") == "1"}
        return {one.get("subject", "") for one in fields}, begun

    async def _take(self, connection: Connection, epoch: str, batch: Batch, fold: Fold) -> None:
        positions = [entry.at.position for entry in batch.entries]
        await self._leaves.reach(connection, min(positions), max(positions))
        lines = Lines(batch.entries, epoch, fold)
        await connection.copy_to_table("events", source=lines.plain(), columns=LINE_COLUMNS, delimiter=DELIMITER)
        if lines.odd:
            await connection.copy_records_to_table("events", records=lines.odd, columns=EVENT_COLUMNS)


def checkpoints_of(rows: Sequence[Row]) -> dict[int, Checkpoint]:
    """Rows of `sql.CHECKPOINTS`, by partition."""
    return {row["partition"]: Checkpoint(row["epoch"], Position(row["ms"], row["position"])) for row in rows}
