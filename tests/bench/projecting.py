"""Events per second into a Postgres of its own: the projector's real way, and the very same rows by COPY and by UNNEST.

The rows are read back from the tables the projection filled, and go in batches of the same size into tables with the
same columns and indexes, one commit a batch, over one connection; they are ready before the clock runs. The projection
decodes, archives, folds, writes the orders and moves its checkpoint.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import asyncpg
import psutil  # type: ignore[import-untyped]

from libs.events.log import Entry
from libs.orders.batch import Batch
from libs.orders.migrate import migrate
from libs.orders.rebuild import rebuild
from libs.orders.store import open_store
from libs.service.lifecycle import calm_collector
from tests.bench.cpu import CpuMeter
from tests.bench.figures import Result, per_second
from tests.bench.made import EVENTS_PER_ORDER, PARTITIONS, Ledger, makers, steps_of
from tests.bench.target import own_postgres

EPOCH = "bench"
BATCH_ROWS = (500, 2_000)  # a projector that keeps pace, and one that catches up: 500 of each partition
ROUNDS = 3
COLUMNS = """
SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
now = time.perf_counter

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Table:
    """A table like one of the projection's."""

    connection: asyncpg.Connection
    name: str
    columns: tuple[str, ...]
    insert: str

    async def copy(self, rows: Rows) -> None:
        await self.connection.copy_records_to_table(self.name, records=rows, columns=self.columns)

    async def unnest(self, rows: Rows) -> None:
        await self.connection.execute(self.insert, *map(list, zip(*rows, strict=True)))


async def measure(orders: int) -> Result:
    """For each size of a batch the medians of `ROUNDS` turns; then a rebuild of what was projected.

    Raises:
        StoreError, EventLogError: a batch was refused.
    """
    entries = await made_entries(orders)
    calm_collector()  # as every service does, and here for what it is compared with too
    async with own_postgres() as store:
        await migrate(store.url)
        connection = await asyncpg.connect(store.url)
        try:
            assert store.pid
            cpu = CpuMeter({"postgres": store.pid})
            found = {str(size): await _sized(connection, store.url, entries, size, cpu) for size in BATCH_ROWS}
            report = await rebuild(store.url)
        finally:
            await connection.close()
    trouble = f"{report.differing} orders differ after a rebuild" if report.differing else ""
    rebuilt = {"events": report.events, "per_s": per_second(report.events, report.seconds), "trouble": trouble}
    return {"batches_of": found, "rebuild": rebuilt}


async def made_entries(orders: int) -> list[Entry]:
    """The log of so many orders, from first to last event."""
    ledger, entries = Ledger(), list[Entry]()
    async with makers() as made:
        async for waves in made.waves(orders):
            entries += ledger.entries(steps_of(waves))
    assert len(entries) == orders * EVENTS_PER_ORDER
    return entries


async def _sized(
    connection: asyncpg.Connection, url: str, entries: Sequence[Entry], size: int, cpu: CpuMeter
) -> Result:
    turns = [await _turn(connection, url, entries, size, cpu) for _ in range(ROUNDS)]
    figures: Result = {name: round(median(turn[name] for turn in turns), 3) for name in turns[0]}
    for raw in ("copy", "unnest", "copy_with_orders"):
        shares = (turn["projected_per_s"] / turn[f"{raw}_per_s"] for turn in turns)
        figures[f"projected_of_{raw}"] = round(median(shares), 3)
    return figures


async def _turn(
    connection: asyncpg.Connection, url: str, entries: Sequence[Entry], size: int, cpu: CpuMeter
) -> dict[str, float]:
    await connection.execute("TRUNCATE events, orders, checkpoints")
    figures = await _projected(url, entries, size, cpu)
    events, begun = await _rows(connection, entries, size)
    table, orders = await _like(connection, "events"), await _like(connection, "orders")
    figures["copy_per_s"] = await _timed(events, table.copy)
    await connection.execute(f"TRUNCATE {table.name}")
    figures["unnest_per_s"] = await _timed(events, table.unnest)
    await connection.execute(f"TRUNCATE {table.name}")

    beginnings = iter(begun)

    async def both(rows: Rows) -> None:
        async with connection.transaction():
            await table.copy(rows)
            if rows_of_orders := next(beginnings):
                await orders.copy(rows_of_orders)

    figures["copy_with_orders_per_s"] = await _timed(events, both)
    return figures


async def _projected(url: str, entries: Sequence[Entry], size: int, cpu: CpuMeter) -> dict[str, float]:
    own = psutil.Process()
    async with open_store(url) as store:
        projection = store.projection()
        at = await projection.resume(EPOCH, PARTITIONS)
        postgres, before, began = cpu.read()["postgres"], sum(own.cpu_times()[:2]), now()
        for first in range(0, len(entries), size):
            at = await projection.apply(EPOCH, Batch(at, entries[first : first + size]))
        took, count = now() - began, len(entries)
        return {
            "projected_per_s": per_second(count, took),
            "cpu_us_per_event": round((sum(own.cpu_times()[:2]) - before) / count * 1e6, 1),
            "postgres_cpu_us_per_event": round((cpu.read()["postgres"] - postgres) / count * 1e6, 1),
        }


async def _rows(connection: asyncpg.Connection, entries: Sequence[Entry], size: int) -> tuple[list[Rows], list[Rows]]:
    """What each batch put into the archive, and the orders it began."""
    records = await connection.fetch("SELECT * FROM events")
    by_place = {(row["partition"], row["position"]): row for row in records}
    orders = {str(row["id"]): tuple(row) for row in await connection.fetch("SELECT * FROM orders")}
    events: list[Rows] = []
    begun: list[Rows] = []
    for first in range(0, len(entries), size):
        batch = [by_place[entry.partition, entry.at.position] for entry in entries[first : first + size]]
        events.append([tuple(row) for row in batch])
        begun.append([orders[str(row["order_id"])] for row in batch if row["version"] == 1])
    return events, begun


async def _like(connection: asyncpg.Connection, original: str) -> Table:
    name = f"bench_{original}"
    await connection.execute(f"DROP TABLE IF EXISTS {name}")
    await connection.execute(f"CREATE TABLE {name} (LIKE {original} INCLUDING ALL)")
    columns = await connection.fetch(COLUMNS, original)
    arrays = ", ".join(f"${number}::{column['type']}[]" for number, column in enumerate(columns, 1))
    names = tuple(column["name"] for column in columns)
    insert = f"INSERT INTO {name} ({', '.join(names)}) SELECT * FROM unnest({arrays})"
    return Table(connection, name, names, insert)


async def _timed(batches: Sequence[Rows], write: Callable[[Rows], Awaitable[object]]) -> float:
    began = now()
    for rows in batches:
        await write(rows)
    return per_second(sum(map(len, batches)), now() - began)
