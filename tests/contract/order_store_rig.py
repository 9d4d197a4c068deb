"""Logs of whole orders for a store, and what it has archived of them."""

import asyncio
from collections.abc import Sequence

from libs.events.ids import START
from libs.events.log import Entry
from libs.events.memory_log import MemoryLog
from libs.orders.store import OrderStore
from tests.journeys import journey

PARTITIONS = 4

EPOCH = "e1"


async def a_log(users: int = 6) -> list[Entry]:
    log = MemoryLog(PARTITIONS)
    await asyncio.gather(*(journey(log, f"user-{number}") for number in range(users)))
    return await log.read(dict.fromkeys(range(PARTITIONS), START), 10_000, 0)


async def archive(store: OrderStore) -> list[Entry]:
    return [entry for partition in range(PARTITIONS) for entry in await store.archived(partition, 0, 10_000)]


def in_partitions(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry.partition, entry.at.position))


def altered(entry: Entry, **fields: str) -> Entry:
    return Entry(entry.partition, entry.at, {**entry.fields, **fields})
