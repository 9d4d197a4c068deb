"""A store filled with years of orders within minutes: rows the system made itself, copied with other ids and places."""

from collections.abc import Mapping

import asyncpg

from libs.orders.leaves import POSITIONS_PER_LEAF

AT_ONCE = 20_000  # rows of one statement, about
COLUMNS = (
    "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)
TEMPLATES = """
DROP TABLE IF EXISTS bench_events, bench_orders, bench_sizes;
CREATE TABLE bench_events AS SELECT * FROM events;
CREATE TABLE bench_orders AS SELECT * FROM orders;
CREATE TABLE bench_sizes AS
SELECT partition, max(position) AS size, max(ms) - min(ms) + 1 AS span FROM bench_events GROUP BY partition"""
COPIED = """
INSERT INTO {table} ({columns}) SELECT {values} FROM bench_{table} AS made {join}
CROSS JOIN generate_series($1::bigint, $2::bigint) AS copies (number) ORDER BY {order}"""

# A time far back in place of an id's own, another for each copy; its partition stays.
_ID = "overlay(made.{name}::text PLACING lpad(to_hex(copies.number), 8, '0') FROM 1 FOR 8)"
_ORDER_ID = _ID.format(name="id")
_ORDERS = {"id": f"{_ORDER_ID}::uuid"}
_EVENTS = {
    "order_id": f"{_ID.format(name='order_id')}::uuid",
    "cause": f"replace(made.cause, made.order_id::text, {_ID.format(name='order_id')})",
}
# From the end of the first leaf downwards: the log will not come so far meanwhile, and they are in the same indexes.
FAR_ON = {**_EVENTS, "position": f"{POSITIONS_PER_LEAF} - (sizes.size * copies.number + made.position)"}
# After what there is, without a hole.
AFTER = {
    **_EVENTS,
    "position": "sizes.size * copies.number + made.position",
    "ms": "sizes.span * copies.number + made.ms",
}


class Copies:
    """What is in the store now, to be copied as often as is wanted. Copies are numbered from 1."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.events = self.orders = self.made = 0

    async def begin(self) -> None:
        await self._connection.execute(TEMPLATES)
        self.events = await self._connection.fetchval("SELECT count(*) FROM bench_events")
        self.orders = await self._connection.fetchval("SELECT count(*) FROM bench_orders")

    async def grow(self, copies: int, events: Mapping[str, str], *, orders: bool = True) -> None:
        """Make copies until there are so many; `events`: `FAR_ON` or `AFTER`."""
        step = max(1, AT_ONCE // max(1, self.events))
        while self.made < copies:
            first, last = self.made + 1, min(copies, self.made + step)
            await self._copy("events", events, "JOIN bench_sizes AS sizes USING (partition)", first, last)
            if orders:
                await self._copy("orders", _ORDERS, "", first, last)
            self.made = last

    async def end(self) -> None:
        """As a store that grew slowly would be: with statistics, and written to disk."""
        await self._connection.execute("ANALYZE events; ANALYZE orders; CHECKPOINT")

    async def _copy(self, table: str, changed: Mapping[str, str], join: str, first: int, last: int) -> None:
        names = [row["attname"] for row in await self._connection.fetch(COLUMNS, table)]
        values = ", ".join(changed.get(name, f"made.{name}") for name in names)
        statement = COPIED.format(
            table=table,
            columns=", ".join(names),
            values=values,
            join=join,
            order="1, copies.number, made.position" if table == "events" else "1",
        )
        await self._connection.execute(statement, first, last, timeout=600)
