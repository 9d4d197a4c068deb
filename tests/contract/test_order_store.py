"""What Postgres promises: the log to the byte, orders as its fold, and a checkpoint that moves with them or never."""

import asyncio
from contextlib import suppress

import asyncpg
import orjson
import pytest

from libs.events.ids import START
from libs.events.memory_log import MemoryLog
from libs.orders.batch import Batch
from libs.orders.locks import Lock, alone
from libs.orders.store import CheckpointMoved, OrderStore, StoreUnavailable, open_store
from tests.builders import routing_started
from tests.contract.order_store_rig import EPOCH, PARTITIONS, a_log, altered, archive, in_partitions
from tests.folded import folded
from tests.journeys import JOURNEY, journey
from tests.waiting import eventually


async def test_the_archive_is_the_log_and_the_orders_are_its_fold(store: OrderStore) -> None:
    entries = await a_log()
    projection = store.projection()
    at = await projection.resume(EPOCH, PARTITIONS)
    assert at == dict.fromkeys(range(PARTITIONS), START)
    until = await projection.apply(EPOCH, Batch(at, entries))
    assert await archive(store) == in_partitions(entries)
    orders = folded(entries)
    assert await store.get_many(list(orders)) == orders
    assert {partition: point.at for partition, point in (await store.checkpoints()).items()} == until
    for order_id in orders:
        history = await store.history(order_id)
        assert [event.version for event, _ in history] == list(range(1, len(JOURNEY) + 2))
        assert await store.get(order_id) == orders[order_id]


@pytest.mark.parametrize("size", [1, 7])
async def test_batches_of_any_size_end_in_the_same_rows(store: OrderStore, size: int) -> None:
    entries = await a_log(3)
    projection = store.projection()
    at = await projection.resume(EPOCH, PARTITIONS)
    for start in range(0, len(entries), size):
        at = await projection.apply(EPOCH, Batch(at, entries[start : start + size]))
    assert await store.get_many(list(folded(entries))) == folded(entries)
    assert await archive(store) == in_partitions(entries)


async def test_a_fresh_process_goes_on_from_the_rows(store: OrderStore) -> None:
    entries = await a_log(3)
    first = store.projection()
    at = await first.apply(EPOCH, Batch(await first.resume(EPOCH, PARTITIONS), entries[:10]))
    second = store.projection()
    assert await second.resume(EPOCH, PARTITIONS) == at
    await second.apply(EPOCH, Batch(at, entries[10:]))
    assert await store.get_many(list(folded(entries))) == folded(entries)


async def test_of_two_writers_one_wins(store: OrderStore, database_url: str) -> None:
    entries = await a_log()
    async with open_store(database_url) as other:
        writers = [store.projection(), other.projection()]
        batch = Batch(await writers[0].resume(EPOCH, PARTITIONS), entries)
        await writers[1].resume(EPOCH, PARTITIONS)
        results = await asyncio.gather(*(writer.apply(EPOCH, batch) for writer in writers), return_exceptions=True)
    assert [type(result) for result in results if isinstance(result, Exception)] == [CheckpointMoved]
    assert await archive(store) == in_partitions(entries)
    assert await store.get_many(list(folded(entries))) == folded(entries)


async def test_a_backend_that_dies_in_mid_transaction_loses_and_leaves_nothing(
    store: OrderStore, direct: asyncpg.Connection
) -> None:
    entries = await a_log()
    projection = store.projection()
    at = await projection.resume(EPOCH, PARTITIONS)
    async with direct.transaction():
        await direct.execute("LOCK TABLE orders IN EXCLUSIVE MODE")  # the batch stops after checkpoint and archive
        applying = asyncio.create_task(projection.apply(EPOCH, Batch(at, entries)))
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        pid = await eventually(lambda: direct.fetchval(waiting), what="the batch waits for the lock")
        await direct.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(StoreUnavailable):
            await applying
    assert await projection.resume(EPOCH, PARTITIONS) == at
    assert await archive(store) == []
    await projection.apply(EPOCH, Batch(at, entries))
    assert await archive(store) == in_partitions(entries)
    assert await store.get_many(list(folded(entries))) == folded(entries)


async def test_events_of_a_later_release_are_archived_and_pass(store: OrderStore) -> None:
    entries = await a_log(1)
    strange = '{"to":  "another amount"}'
    entries[2] = altered(entries[2], type="OrderAmended", data=strange, color="a new field")
    entries[3] = altered(entries[3], v="2")
    projection = store.projection()
    await projection.apply(EPOCH, Batch(await projection.resume(EPOCH, PARTITIONS), entries))
    assert await archive(store) == entries
    assert await store.get_many(list(folded(entries))) == folded(entries)
    order_id = entries[0].fields["subject"]
    assert (await store.history(order_id))[2][0].type == "OrderAmended"


async def test_values_that_text_cannot_carry_between_rows_go_in_all_the_same(store: OrderStore) -> None:
    entries = await a_log(2)
    request = orjson.loads(entries[0].fields["data"])
    terms = {"client_order_id": "a\x01b\x02c\nd\\N"}
    entries[0] = altered(entries[0], data=orjson.dumps({**request, "terms": terms}).decode())
    entries[1] = altered(entries[1], data='{\n "attempt":\r\n1}')
    entries[3] = altered(entries[3], source="\x01", cause="\\N\x02")
    entries[4] = altered(entries[4], time="2026-01-02T04:04:05+01:00", traceparent="\x01")
    projection = store.projection()
    await projection.apply(EPOCH, Batch(await projection.resume(EPOCH, PARTITIONS), entries))
    assert await archive(store) == in_partitions(entries)
    assert await store.get_many(list(folded(entries))) == folded(entries)
    found = await store.by_client_id(entries[0].fields["user"], terms["client_order_id"])
    assert found == folded(entries)[entries[0].fields["subject"]]


async def test_of_an_order_only_the_last_event_of_each_type_is_named(
    store: OrderStore, direct: asyncpg.Connection
) -> None:
    entries = await a_log(1)
    projection = store.projection()
    at = await projection.apply(EPOCH, Batch(await projection.resume(EPOCH, PARTITIONS), entries[:3]))
    assert await direct.fetchval("SELECT latest FROM orders") == [1, 2, 3]
    fresh = store.projection()
    await fresh.resume(EPOCH, PARTITIONS)
    await fresh.apply(EPOCH, Batch(at, entries[3:]))
    assert await direct.fetchval("SELECT latest FROM orders") == [1, 3, 4, 5, 6, 7]


async def test_a_page_is_newest_first_and_goes_on_below_its_cursor(store: OrderStore) -> None:
    log = MemoryLog(PARTITIONS)
    snapshots = [await journey(log, "user-1", [routing_started()]) for _ in range(5)]
    await journey(log, "user-2", [])
    entries = await log.read(dict.fromkeys(range(PARTITIONS), START), 10_000, 0)
    projection = store.projection()
    await projection.apply(EPOCH, Batch(await projection.resume(EPOCH, PARTITIONS), entries))
    newest = sorted((snapshot.order.id for snapshot in snapshots), reverse=True)
    page = await store.newest("user-1", None, 2)
    assert [order.id for order in page] == newest[:2]
    assert [order.id for order in await store.newest("user-1", newest[1], 10)] == newest[2:]
    assert await store.newest("user-3", None, 10) == []


async def test_the_archive_pages_by_position(store: OrderStore) -> None:
    entries = await a_log(1)
    projection = store.projection()
    await projection.apply(EPOCH, Batch(await projection.resume(EPOCH, PARTITIONS), entries))
    partition = entries[0].partition
    assert await store.archived(partition, 2, 3) == entries[2:5]


async def test_a_lock_that_could_not_be_given_back_is_not_kept(
    store: OrderStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.get_many([])  # a connection whose session has begun

    async def late(*_given: object) -> None:
        raise TimeoutError

    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
        async with alone(store, Lock.REPAIR, "busy"):
            patch.setattr(asyncpg.Connection, "execute", late)
    async with open_store(database_url) as other:

        async def free() -> bool:
            with suppress(StoreUnavailable):
                async with alone(other, Lock.REPAIR, "busy"):
                    return True
            return False

        await eventually(free, what="the lock is free")


async def test_what_a_machine_that_is_gone_has_locked_is_free_within_a_minute(store: OrderStore) -> None:
    """Nobody else could project, or repair, for the two hours after which Postgres asks a silent session by itself."""
    asked = "SELECT name FROM pg_settings WHERE name LIKE 'tcp_%' AND source = 'session' ORDER BY name"
    async with store.connection() as connection:
        found = [row["name"] for row in await connection.fetch(asked)]
    limits = ["tcp_keepalives_count", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_user_timeout"]
    assert found == limits, "a socket of the same machine, as here, has no values to look at"


async def test_a_connection_to_a_primary_that_was_demoted_is_given_up(
    store: OrderStore, direct: asyncpg.Connection
) -> None:
    """The name leads to another Postgres by now, but only who connects anew comes there."""
    entries = await a_log()
    projection = store.projection()
    name = await direct.fetchval("SELECT current_database()")
    await direct.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        with pytest.raises(StoreUnavailable, match="read-only"):
            await projection.resume(EPOCH, PARTITIONS)
    finally:
        await direct.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await projection.apply(EPOCH, Batch(await projection.resume(EPOCH, PARTITIONS), entries))
    assert await archive(store) == in_partitions(entries)
