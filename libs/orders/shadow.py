"""Tables beside the live ones, into which the archive is folded again: made, filled, compared, put in their place.

Orders flow meanwhile. See `libs.orders.rebuild` for the order in which that is done.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncpg

from libs.events.ids import Position
from libs.orders import sql
from libs.orders.heads import Head
from libs.orders.projection import checkpoints_of
from libs.orders.rebuild_report import COMPARE_TIMEOUT_S, Report, note_differences
from libs.orders.refolding import Heads, folded_by, heads_after
from libs.orders.store import ORDERS, Checkpoint, Connection, OrderStore, StoreError

ENTRIES_PER_PARTITION = 2_000
LOCK_TIMEOUT = "5s"  # how long a switch waits for readers, and everybody else for the switch


class RebuildRefused(StoreError):
    """It cannot be done as things stand, and nothing was changed; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Side:
    """Tables that are not live: the schema they are in, and the name of their checkpoints."""

    schema: str
    projection: str


NEXT = Side("rebuild", "orders.rebuild")
PREVIOUS = Side("previous", "orders.previous")


class Shadow:
    """One side's tables, on their way to become the live ones."""

    def __init__(self, live: OrderStore, shadow: OrderStore, side: Side) -> None:
        """`shadow`: the store in which `side`'s tables are the ones that are written."""
        self._live, self._shadow, self._side = live, shadow, side
        self._projection = shadow.refolding(side.projection)

    async def begin(self) -> None:
        """Make the tables, unless there are some to go on with.

        Raises:
            RebuildRefused: nothing was ever projected.
        """
        if not await self._live.checkpoints():
            raise RebuildRefused("nothing was ever projected: there is nothing to rebuild")
        columns = await self._columns()
        schema = self._side.schema
        async with self._live.connection() as connection, connection.transaction():
            mine = await connection.fetchval(sql.FOLDED_BY, schema) == folded_by()
            if mine and columns.get(schema) == columns["public"]:
                return
            # From before a migration, folded by other code, or none at all.
            await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
            await connection.execute(sql.DROP_CHECKPOINTS, self._side.projection)
            await connection.execute(sql.BEGIN_SHADOW.format(schema=schema, folded_by=folded_by()))

    async def check_fit(self) -> None:
        """See that the tables are there, and what the live ones are.

        Raises:
            RebuildRefused: they are not.
        """
        columns = await self._columns()
        if self._side.schema not in columns:
            raise RebuildRefused("there is nothing to go back to: no rebuild was switched")
        if columns[self._side.schema] != columns["public"]:
            raise RebuildRefused("the tables of before are from before a migration: rebuild instead")

    async def drop(self) -> None:
        """Remove the tables and their checkpoints."""
        async with self._live.connection() as connection, connection.transaction():
            await connection.execute(f"DROP SCHEMA IF EXISTS {self._side.schema} CASCADE")
            await connection.execute(sql.DROP_CHECKPOINTS, self._side.projection)

    async def catch_up(self, progress: Callable[[int], None] = lambda _: None) -> int:
        """Fold the archive from where the tables are to its end; gives how many events that were.

        Raises:
            PositionGap: the archive has a hole.
        """
        epoch, partitions = await self._epoch()
        at = await self._projection.resume(epoch, partitions)
        count, heads = 0, await self._archived(at)
        while heads:
            batch = Heads(at, heads)
            # Postgres looks for the next ones while these are folded.
            at, heads = await asyncio.gather(
                self._projection.apply(epoch, batch), self._archived({**at, **batch.until()})
            )
            count += len(batch.entries)
            progress(count)
        return count

    async def compare(self, report: Report) -> dict[int, Position]:
        """Look for orders that differ, except those that went on since both were in step; gives where that was."""
        async with (
            self._live.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            found = checkpoints_of(await connection.fetch(sql.CHECKPOINTS, self._side.projection))
            at = {partition: checkpoint.at for partition, checkpoint in found.items()}
            report.orders = await connection.fetchval(
                sql.COUNT.format(schema=self._side.schema), timeout=COMPARE_TIMEOUT_S
            )
            await note_differences(connection, self._side.schema, at, report, late=False)
        return at

    async def switch(self, compared_at: Mapping[int, Position] | None, report: Report, *, accept: bool) -> None:
        """Put these tables in the place of the live ones, which stay as `PREVIOUS`; all or nothing.

        Raises:
            RebuildRefused: they differ, and that was not accepted; or something is bound to the live ones.
        """
        if report.differing and not accept:
            raise RebuildRefused(f"{report.differing} orders differ: look at them, then accept the differences")
        await self._check_bound()
        await self._index()
        try:
            async with self._shadow.connection() as connection, connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                await self._fall_in_step(connection)
                if compared_at is not None:
                    await note_differences(connection, self._side.schema, compared_at, report, late=True)
                    if report.differing and not accept:
                        raise RebuildRefused(f"{report.differing} orders differ: nothing was switched")
                await self._swap(connection)
        except asyncpg.LockNotAvailableError as error:
            raise RebuildRefused(f"somebody held the tables for {LOCK_TIMEOUT}: try again") from error
        report.switched = True

    async def _columns(self) -> dict[str, str]:
        async with self._live.connection() as connection:
            rows = await connection.fetch(sql.SHADOWS, ["public", self._side.schema])
        return {row["schema"]: row["columns"] for row in rows}

    async def _epoch(self) -> tuple[str, int]:
        points = await self._live.checkpoints()
        return _epoch_of(points), len(points)

    async def _archived(self, at: Mapping[int, Position], until: Mapping[int, Checkpoint] | None = None) -> list[Head]:
        found: list[Head] = []
        async with self._live.connection() as connection:
            for partition, position in at.items():
                page = await heads_after(connection, partition, position.position, ENTRIES_PER_PARTITION)
                end = until[partition].at.position if until else None
                found += page if end is None else [head for head in page if head.at.position <= end]
        return found

    async def _check_bound(self) -> None:
        async with self._live.connection() as connection:
            if bound := ", ".join(row["name"] for row in await connection.fetch(sql.BOUND)):
                raise RebuildRefused(
                    f"{bound} would stay with the orders of before: drop it first, make it again after"
                )

    async def _index(self) -> None:
        """As the live table is; once it is filled, because that is faster."""
        schema = self._side.schema
        async with self._live.connection() as connection:
            have = {row["indexname"] for row in await connection.fetch(sql.INDEXES, schema)}
            for row in await connection.fetch(sql.INDEXES, "public"):
                if row["indexname"] not in have:
                    definition = row["indexdef"].replace(" ON public.orders ", f" ON {schema}.orders ")
                    await connection.execute(definition, timeout=COMPARE_TIMEOUT_S)

    async def _fall_in_step(self, connection: Connection) -> None:
        """The projector waits for these rows until the switch is over, so the archive ends here."""
        until = checkpoints_of(await connection.fetch(sql.LOCK_CHECKPOINTS, ORDERS))
        behind = checkpoints_of(await connection.fetch(sql.LOCK_CHECKPOINTS, self._side.projection))
        at, epoch = {partition: checkpoint.at for partition, checkpoint in behind.items()}, _epoch_of(until)
        while heads := await self._archived(at, until):
            batch = Heads(at, heads)
            self._projection.forget()
            await self._projection.write(connection, epoch, batch)
            at |= batch.until()

    async def _swap(self, connection: Connection) -> None:
        for row in await connection.fetch(sql.RIGHTS.format(schema=self._side.schema)):
            await connection.execute(row["statement"])
        await connection.execute(
            f"""
            CREATE SCHEMA outgoing;
            ALTER TABLE public.orders SET SCHEMA outgoing;
            ALTER TABLE {self._side.schema}.orders SET SCHEMA public;
            DROP SCHEMA {self._side.schema};
            DROP SCHEMA IF EXISTS {PREVIOUS.schema} CASCADE;
            ALTER SCHEMA outgoing RENAME TO {PREVIOUS.schema};"""
        )
        for name in {PREVIOUS.projection, self._side.projection}:
            await connection.execute(sql.DROP_CHECKPOINTS, name)
        await connection.execute(sql.COPY_CHECKPOINTS, ORDERS, PREVIOUS.projection)
        await connection.execute(sql.NEXT_GENERATION, ORDERS)


def _epoch_of(checkpoints: Mapping[int, Checkpoint]) -> str:
    """The log that all of them are of."""
    return next(iter(checkpoints.values())).epoch
