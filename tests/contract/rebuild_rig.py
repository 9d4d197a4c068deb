"""A log and its projection in Postgres, whose tables are rebuilt while it goes on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from libs.events.ids import START
from libs.events.log import Entry
from libs.events.memory_log import MemoryLog
from libs.orders.batch import Batch
from libs.orders.rebuild import drop
from libs.orders.shadow import NEXT, PREVIOUS
from libs.orders.store import OrderStore, Projection, open_store
from tests.builders import route_selected, then
from tests.contract.order_store_rig import PARTITIONS
from tests.folded import folded
from tests.journeys import JOURNEY, journey

EPOCH = "e1"
USERS = [f"user-{number}" for number in range(12)]


class Projected:
    """A log and its projection, which the tests let go on."""

    def __init__(self, store: OrderStore, dsn: str) -> None:
        self.log, self.store, self.dsn = MemoryLog(PARTITIONS), store, dsn
        self.projection: Projection = store.projection()
        self.at = dict.fromkeys(range(PARTITIONS), START)

    async def begin(self) -> None:
        self.at = await self.projection.resume(EPOCH, PARTITIONS)

    async def more(self, users: Sequence[str], steps: int = len(JOURNEY)) -> None:
        """Orders as far as so many steps, projected."""
        await asyncio.gather(*(journey(self.log, user, JOURNEY[:steps]) for user in users))
        await self.project()

    async def project(self) -> None:
        entries = await self.log.read(self.at, 10_000, 0)
        self.at = await self.projection.apply(EPOCH, Batch(self.at, entries))

    async def entries(self) -> list[Entry]:
        return await self.log.read(dict.fromkeys(range(PARTITIONS), START), 10_000, 0)

    async def is_the_fold(self) -> None:
        orders = folded(await self.entries())
        assert await self.store.get_many(list(orders)) == orders


@asynccontextmanager
async def open_projected(database_url: str) -> AsyncIterator[Projected]:
    """Its tables are empty before; nothing of a rebuild is left afterwards."""
    async with open_store(database_url) as store:
        projected = Projected(store, database_url)
        await projected.begin()
        yield projected
    for side in (NEXT, PREVIOUS):
        await drop(database_url, side)


async def spoil(direct: asyncpg.Connection) -> str:
    """One row that is not what the log says."""
    order_id = await direct.fetchval("SELECT id FROM orders ORDER BY id LIMIT 1")
    await direct.execute("UPDATE orders SET status = 'FAILED' WHERE id = $1", order_id)
    return str(order_id)


async def go_on(log: MemoryLog, order_id: str) -> None:
    held = await log.find(order_id)
    assert held
    step, _ = then(held, route_selected(2))
    await log.commit(step)
