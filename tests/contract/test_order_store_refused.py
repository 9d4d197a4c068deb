"""What the projection refuses, and that nothing of it is left in Postgres."""

import asyncpg
import pytest

from libs.events.errors import LogMismatch, PositionGap, VersionGap
from libs.events.ids import Position
from libs.events.log import Entry
from libs.orders.batch import Batch
from libs.orders.rows import Undecodable
from libs.orders.store import BatchRefused, CheckpointMoved, OrderStore, StoreUnavailable, open_store
from tests.contract.order_store_rig import EPOCH, PARTITIONS, a_log, altered, archive, in_partitions


async def test_the_same_batch_twice_is_refused_by_the_checkpoint(store: OrderStore) -> None:
    entries = await a_log()
    projection = store.projection()
    batch = Batch(await projection.resume(EPOCH, PARTITIONS), entries)
    await projection.apply(EPOCH, batch)
    with pytest.raises(CheckpointMoved):
        await projection.apply(EPOCH, batch)
    assert await archive(store) == in_partitions(entries)


def _hole(entries: list[Entry]) -> list[Entry]:
    return [*entries[:2], *entries[3:]]


def _garbage(entries: list[Entry]) -> list[Entry]:
    return [*entries[:2], altered(entries[2], data="{"), *entries[3:]]


def _lost_version(entries: list[Entry]) -> list[Entry]:
    return [
        Entry(kept.partition, Position(kept.at.ms, number), kept.fields)
        for number, kept in enumerate([*entries[:2], *entries[3:]], start=1)
    ]


def _repeated_version(entries: list[Entry]) -> list[Entry]:
    return [*entries[:2], altered(entries[2], **entries[1].fields), *entries[3:]]


def _no_beginning(entries: list[Entry]) -> list[Entry]:
    return [altered(entries[0], **entries[1].fields)]


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_hole, PositionGap),
        (_garbage, Undecodable),
        (_lost_version, VersionGap),
        (_repeated_version, VersionGap),
        (_no_beginning, VersionGap),
    ],
)
async def test_what_cannot_be_projected_leaves_nothing_behind(store: OrderStore, spoil: object, error: type) -> None:
    assert callable(spoil)
    entries = spoil(await a_log(1))
    projection = store.projection()
    at = await projection.resume(EPOCH, PARTITIONS)
    with pytest.raises(error):
        await projection.apply(EPOCH, Batch(at, entries))
    assert await archive(store) == []
    assert await projection.resume(EPOCH, PARTITIONS) == at


@pytest.mark.parametrize("known", [True, False])
async def test_an_order_that_is_not_as_the_checkpoint_says_is_not_written_over(
    store: OrderStore, direct: asyncpg.Connection, known: bool
) -> None:
    """Somebody changed it by hand, or brought one table of two back."""
    entries = await a_log(1)
    projection = store.projection()
    at = await projection.apply(EPOCH, Batch(await projection.resume(EPOCH, PARTITIONS), entries[:3]))
    await direct.execute("UPDATE orders SET version = version - 1")
    with pytest.raises(CheckpointMoved if known else VersionGap):
        await (projection if known else store.projection()).apply(EPOCH, Batch(at, entries[3:]))
    assert await archive(store) == in_partitions(entries[:3])


@pytest.mark.parametrize("field", [{"traceparent": "\0"}, {"user": "\ud800"}, {"v": "40000"}])
async def test_a_value_no_column_takes_is_refused_with_its_place(store: OrderStore, field: dict[str, str]) -> None:
    entries = await a_log(1)
    entries[1] = altered(entries[1], **field)
    projection = store.projection()
    with pytest.raises(BatchRefused, match=rf"from {entries[0].partition}:{entries[0].at}"):
        await projection.apply(EPOCH, Batch(await projection.resume(EPOCH, PARTITIONS), entries))
    assert await archive(store) == []


async def test_another_log_is_refused_and_said_so(store: OrderStore) -> None:
    entries = await a_log(1)
    projection = store.projection()
    at = await projection.apply(EPOCH, Batch(await projection.resume(EPOCH, PARTITIONS), entries))
    with pytest.raises(LogMismatch, match="the log now there has epoch e2"):
        await projection.resume("e2", PARTITIONS)
    with pytest.raises(LogMismatch, match="set PARTITIONS to match"):
        await projection.resume(EPOCH, PARTITIONS - 1)
    assert await projection.resume(EPOCH, PARTITIONS) == at


async def test_a_database_that_does_not_answer_is_one_error() -> None:
    async with open_store("postgresql://nobody@127.0.0.1:1/none") as store:
        with pytest.raises(StoreUnavailable):
            await store.checkpoints()
