"""A projector at work on a log, and how to tell that Postgres holds what the log folds to."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress

from libs.events.errors import LogUnavailable
from libs.events.ids import START, Position
from libs.events.log import Entry, EventLog, Only
from libs.events.memory_log import MemoryLog
from libs.orders.locks import Lock, Seat
from libs.orders.store import OrderStore, StoreUnavailable
from libs.service.health import Health
from services.projector.handlers import Log, Projector
from tests.folded import folded

PARTITIONS = 4


class StartedMemoryLog(MemoryLog):
    """A log in memory that can be away, and can be spoiled."""

    def __init__(self) -> None:
        super().__init__(PARTITIONS)
        self.away = False
        self.spoil: Mapping[int, str] = {}
        self.epoch_now = "memory"
        self.registered: dict[str, Mapping[int, Position]] = {}

    @property
    def epoch(self) -> str:
        return self.epoch_now

    async def start(self) -> None:
        if self.away:
            raise LogUnavailable("away")

    async def read(
        self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
    ) -> list[Entry]:
        if self.away:
            raise LogUnavailable("away")
        entries = await super().read(after, count, block_ms, only)
        return [
            Entry(entry.partition, entry.at, {**entry.fields, "data": self.spoil[entry.at.position]})
            if entry.at.position in self.spoil
            else entry
            for entry in entries
        ]

    async def register_reader(self, name: str, at: Mapping[int, Position]) -> None:
        self.registered[name] = dict(at)


@asynccontextmanager
async def standing_by(log: Log, store: OrderStore) -> AsyncIterator[asyncio.Task[None]]:
    """As the process is: at work while no other has its place."""
    stop = asyncio.Event()
    async with aclosing(Seat(store, Lock.PROJECTING)) as seat:
        projector = Projector(log, store.projection(through=seat), Health("redis", "postgres"), seat=seat)
        task = asyncio.create_task(projector.run(stop))
        yield task
        stop.set()
        await task


@asynccontextmanager
async def projecting(log: Log, store: OrderStore, health: Health | None = None) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    projector = Projector(log, store.projection(), health or Health("redis", "postgres"))
    task = asyncio.create_task(projector.run(stop))
    try:
        yield task
    finally:
        stop.set()
        with suppress(Exception):  # a test that expects an end awaits the task itself
            await task


async def whole(log: EventLog) -> list[Entry]:
    entries = await log.read(dict.fromkeys(range(PARTITIONS), START), 100_000, 0)
    return sorted(entries, key=lambda entry: (entry.partition, entry.at.position))


async def caught_up(log: EventLog, store: OrderStore) -> bool:
    tips = {partition: await log.tip(partition) for partition in range(PARTITIONS)}
    try:
        checkpoints = await store.checkpoints()
    except StoreUnavailable:  # where a test kills connections, this one may be among them
        return False
    return {partition: point.at for partition, point in checkpoints.items()} == tips


async def assert_postgres_is_the_fold_of(log: EventLog, store: OrderStore) -> None:
    entries = await whole(log)
    archived = [entry for partition in range(PARTITIONS) for entry in await store.archived(partition, 0, 100_000)]
    assert archived == entries
    orders = folded(entries)
    assert await store.get_many(list(orders)) == orders
