"""The projection in memory, with the promises of the one in Postgres (`tests/contract/test_projection.py`)."""

import asyncio
from collections.abc import Mapping, Sequence

from libs.events.envelope import Envelope
from libs.events.errors import LogMismatch
from libs.events.ids import START, Position
from libs.events.log import Entry
from libs.events.order import Order
from libs.orders.batch import Batch
from libs.orders.listed import Listed
from libs.orders.store import Checkpoint, CheckpointMoved
from tests.folded import folded


class MemoryProjection:
    """As `libs.orders.store.Projection`, and what `OrderStore` tells of it."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.entries: list[Entry] = []
        self._points: dict[int, Checkpoint] = {}

    async def resume(self, epoch: str, partitions: int) -> dict[int, Position]:
        """See `Projection.resume`."""
        await asyncio.sleep(0)
        self._points = self._points or {number: Checkpoint(epoch, START) for number in range(partitions)}
        if any(point.epoch != epoch for point in self._points.values()) or len(self._points) != partitions:
            raise LogMismatch("made from another log")
        return {partition: point.at for partition, point in self._points.items()}

    async def trouble_ahead(self) -> str:
        """See `Projection.trouble_ahead`."""
        return ""

    async def apply(self, epoch: str, batch: Batch) -> dict[int, Position]:
        """See `Projection.apply`."""
        await asyncio.sleep(0)
        until = batch.until()
        if any(self._points[partition] != Checkpoint(epoch, batch.after[partition]) for partition in until):
            raise CheckpointMoved("another process writes the same projection")
        self.orders = folded(batch.entries, self.orders)
        self.entries += batch.entries
        self._points |= {partition: Checkpoint(epoch, at) for partition, at in until.items()}
        return {**batch.after, **until}

    async def checkpoints(self) -> Mapping[int, Checkpoint]:
        """See `OrderStore.checkpoints`."""
        return dict(self._points)

    async def get(self, order_id: str) -> Order | None:
        """See `OrderStore.get`."""
        return self.orders.get(order_id)

    async def get_many(self, order_ids: Sequence[str]) -> dict[str, Order]:
        """See `OrderStore.get_many`."""
        return {order_id: self.orders[order_id] for order_id in order_ids if order_id in self.orders}

    async def newest(self, user: str, before: str | None, limit: int) -> list[Listed]:
        """See `OrderStore.newest`."""
        mine = (order for order in self.orders.values() if order.user == user and (not before or order.id < before))
        newest = sorted(mine, key=lambda order: order.id, reverse=True)[:limit]
        return [Listed(order.id, order.status, order.created_at) for order in newest]

    async def history(self, order_id: str) -> list[tuple[Envelope, Position]]:
        """See `OrderStore.history`."""
        return [(entry.decode(), entry.at) for entry in self.entries if entry.fields["subject"] == order_id]
