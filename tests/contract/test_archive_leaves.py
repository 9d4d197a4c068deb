"""The archive in leaves: whole over their borders, unique over them too, and an old one may go."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from deploy.local.stores import Store
from libs.events.errors import VersionGap
from libs.events.ids import START, Position
from libs.events.log import Entry
from libs.events.memory_log import MemoryLog
from libs.orders.batch import Batch
from libs.orders.leaves import POSITIONS_PER_LEAF, Leaves
from libs.orders.migrate import MIGRATIONS, migrate
from libs.orders.store import BatchRefused, CheckpointMoved, OrderStore, Projection, open_store
from libs.orders.views import OrderViews
from tests.builders import attempt_failed, then
from tests.contract.http_gateway import gateway
from tests.contract.order_store_rig import EPOCH, PARTITIONS, a_log, archive, in_partitions
from tests.folded import folded
from tests.journeys import JOURNEY, journey
from tests.servers import fresh_database

LEAF = 8
BEFORE_LEAVES = """
INSERT INTO events VALUES ($1, $2, $3, $4, $5::text::timestamptz, $6, 1, 'e1', $7, $8, $9, $10, $11, $12)"""
LEAVES = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass"


@pytest.fixture
async def direct(own_database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(own_database)
    await connection.execute("DROP TABLE events_0")
    yield connection
    await connection.close()


@pytest.fixture
async def store(own_database: str, direct: asyncpg.Connection) -> AsyncIterator[OrderStore]:
    async with open_store(own_database) as opened:
        yield opened


def with_small_leaves(store: OrderStore) -> Projection:
    projection = store.projection()
    projection._leaves = Leaves(LEAF)
    return projection


async def one_by_one(projection: Projection, entries: list[Entry], size: int) -> dict[int, Position]:
    at = await projection.resume(EPOCH, PARTITIONS)
    for start in range(0, len(entries), size):
        at = await projection.apply(EPOCH, Batch(at, entries[start : start + size]))
    return at


@pytest.mark.parametrize("size", [3, 1_000])
async def test_leaves_are_made_as_positions_reach_them_and_read_as_one(
    store: OrderStore, direct: asyncpg.Connection, size: int
) -> None:
    entries = await a_log(9)
    await one_by_one(with_small_leaves(store), entries, size)
    farthest = max(entry.at.position for entry in entries)
    assert farthest > 2 * LEAF, "an order must lie in two leaves for this to say anything"
    assert await direct.fetchval(LEAVES) == farthest // LEAF + 1
    assert await archive(store) == in_partitions(entries)
    for order_id, order in folded(entries).items():
        assert [event.version for event, _ in await store.history(order_id)] == list(range(1, order.version + 1))


async def test_another_process_goes_on_in_the_leaf_it_finds(store: OrderStore, direct: asyncpg.Connection) -> None:
    log = MemoryLog(PARTITIONS)
    at = dict.fromkeys(range(PARTITIONS), START)
    for _ in range(5):
        await journey(log, "user-1")
        projection = with_small_leaves(store)
        assert await projection.resume(EPOCH, PARTITIONS) == at
        at = await projection.apply(EPOCH, Batch(at, await log.read(at, 1_000, 0)))
    entries = await log.read(dict.fromkeys(range(PARTITIONS), START), 1_000, 0)
    assert await archive(store) == entries
    assert await direct.fetchval(LEAVES) == len(entries) // LEAF + 1


async def test_a_version_that_is_in_one_leaf_is_refused_in_another(store: OrderStore) -> None:
    """No index spans leaves: the order's own row is what refuses, in the same transaction."""
    log = MemoryLog(PARTITIONS)
    await journey(log, "user-1")
    entries = await log.read(dict.fromkeys(range(PARTITIONS), START), 1_000, 0)
    await one_by_one(with_small_leaves(store), entries, 100)
    fresh = with_small_leaves(store)
    at = await fresh.resume(EPOCH, PARTITIONS)
    last = entries[-1]
    beyond = [
        Entry(last.partition, Position(last.at.ms, last.at.position + more), last.fields) for more in range(1, LEAF + 2)
    ]
    with pytest.raises(VersionGap):
        await fresh.apply(EPOCH, Batch(at, beyond))
    assert await archive(store) == entries


async def test_an_order_made_a_second_time_is_refused_in_another_leaf(store: OrderStore) -> None:
    entries = await a_log(1)
    await one_by_one(with_small_leaves(store), entries, 100)
    fresh = with_small_leaves(store)
    at = await fresh.resume(EPOCH, PARTITIONS)
    last = entries[-1]
    again = [
        Entry(last.partition, Position(last.at.ms, last.at.position + more), entry.fields)
        for more, entry in enumerate(entries, start=1)
    ]
    with pytest.raises(BatchRefused, match="orders_pkey"):
        await fresh.apply(EPOCH, Batch(at, again))
    assert await archive(store) == entries


async def test_a_place_that_is_taken_is_refused(store: OrderStore) -> None:
    entries = await a_log(1)
    projection = with_small_leaves(store)
    at = await projection.resume(EPOCH, PARTITIONS)
    await projection.apply(EPOCH, Batch(at, entries))
    with pytest.raises(CheckpointMoved):
        await projection.apply(EPOCH, Batch(at, entries[:1]))


async def test_the_oldest_leaf_may_go_and_the_rest_is_written_and_read_on(
    store: OrderStore, direct: asyncpg.Connection
) -> None:
    log = MemoryLog(PARTITIONS)
    for _ in range(3):
        await journey(log, "user-1")
    entries = await log.read(dict.fromkeys(range(PARTITIONS), START), 1_000, 0)
    projection = with_small_leaves(store)
    at = await one_by_one(projection, entries, 100)
    await direct.execute("ALTER TABLE events DETACH PARTITION events_0; DROP TABLE events_0")
    await journey(log, "user-1")
    later = await log.read(at, 1_000, 0)
    await projection.apply(EPOCH, Batch(at, later))
    assert await archive(store) == [entry for entry in [*entries, *later] if entry.at.position >= LEAF]


async def test_an_order_whose_events_were_let_go_is_gone_and_the_others_are_there(
    store: OrderStore, direct: asyncpg.Connection
) -> None:
    log = MemoryLog(PARTITIONS)
    for _ in range(3):
        await journey(log, "user-1")
    entries = await log.read(dict.fromkeys(range(PARTITIONS), START), 1_000, 0)
    await one_by_one(with_small_leaves(store), entries, 100)
    await direct.execute("ALTER TABLE events DETACH PARTITION events_0; DROP TABLE events_0")
    gone = {entry.fields["subject"] for entry in entries if entry.at.position < LEAF}
    kept = {entry.fields["subject"] for entry in entries} - gone
    assert kept
    views = OrderViews(MemoryLog(PARTITIONS), store)
    assert {order.id for order in (await views.newest("user-1", None, 10))[0]} == kept
    assert await store.get_many(sorted(gone)) == {}


async def test_of_an_open_order_is_told_what_is_left_and_how_much_was_let_go(
    store: OrderStore, direct: asyncpg.Connection
) -> None:
    log = MemoryLog(PARTITIONS)
    old, split = await journey(log, bodies=JOURNEY[:4]), await journey(log, bodies=JOURNEY[:3])
    entries = await log.read(dict.fromkeys(range(PARTITIONS), START), 1_000, 0)
    await one_by_one(with_small_leaves(store), entries, 100)
    await direct.execute("ALTER TABLE events DETACH PARTITION events_0; DROP TABLE events_0")
    step, _ = then(split, attempt_failed(2))
    await log.commit(step)
    await log.trim(entries[-1].partition, Position(entries[-1].at.ms, entries[-1].at.position + 1))
    async with gateway(log=log, store=store) as client:
        for order, left, gone in ((split, [3, 4, 5], 2), (old, [], 5)):
            path = f"/api/orders/{order.order.id}"
            history = await client.get(f"{path}/events")
            assert history.status == 200
            assert ([event["version"] for event in history.body["events"]], history.body["missing"]) == (left, gone)
            assert (await client.get(f"{path}?expand=events")).body["events"] == history.body["events"]
        listed = await client.get("/api/orders?expand=events")
        assert [[event["version"] for event in order["events"]] for order in listed.body["orders"]] == [[3, 4, 5], []]


@pytest.fixture
def empty_database(postgres_store: Store) -> Iterator[str]:
    with fresh_database(postgres_store.url, "template0") as url:
        yield url


@pytest.mark.parametrize(
    ("last", "leaves"), [(7, 1), (POSITIONS_PER_LEAF, 1), (3 * POSITIONS_PER_LEAF - 1, 2)], ids=["few", "many", "full"]
)
async def test_what_was_archived_before_there_were_leaves_becomes_the_first(
    empty_database: str, tmp_path: Path, last: int, leaves: int
) -> None:
    for script in MIGRATIONS.glob("*.sql"):
        if script.name < "0007":
            shutil.copy(script, tmp_path)
    await migrate(empty_database, tmp_path)
    connection = await asyncpg.connect(empty_database)
    before = await a_log(1)
    entries = [_moved(entry, last - len(before)) for entry in before]
    await connection.executemany(BEFORE_LEAVES, [_as_before(entry) for entry in entries])
    point = ("orders", entries[0].partition, EPOCH, entries[-1].at.ms, last)
    await connection.execute("INSERT INTO checkpoints VALUES ($1, $2, $3, $4, $5)", *point)
    assert (await migrate(empty_database))[0] == "0007_archive_in_leaves"
    async with open_store(empty_database) as store:
        assert await store.archived(entries[0].partition, 0, 100) == entries
        assert await store.entries(entries[0].fields["subject"]) == entries
        projection = store.projection()
        await projection.resume(EPOCH, PARTITIONS)
        later = [_moved(entry, last) for entry in await a_log(1)]
        assert later[0].partition == entries[0].partition
        await projection.apply(EPOCH, Batch({entries[0].partition: entries[-1].at}, later))
        assert await store.archived(entries[0].partition, 0, 100) == [*entries, *later]
    assert await connection.fetchval(LEAVES) == leaves
    await connection.close()


def _moved(entry: Entry, by: int) -> Entry:
    return Entry(entry.partition, Position(entry.at.ms, entry.at.position + by), entry.fields)


def _as_before(entry: Entry) -> tuple[object, ...]:
    fields = entry.fields
    names = ("type", "source", "user", "cause", "traceparent", "data")
    place = (entry.partition, entry.at.position, int(fields["version"]), entry.at.ms, fields["time"])
    return (*place, fields["subject"], *(fields[name] for name in names))
