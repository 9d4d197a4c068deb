"""Parked items: shown with all that is known, put back once, thrown away only with a reason. On memory and Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.events.log import Committed, EventLog, Snapshot
from libs.events.model import OrderCancelled, OrderFailed, Status
from libs.events.parked import Parked
from libs.events.parking import NotDiscardable, discard
from libs.events.redis_keys import Keys
from libs.events.redis_log import RedisLog
from libs.events.work import Item
from tests.builders import NOW, a_request, route_selected, routing_started, then, tx_submitted
from tests.contract.event_log_rig import new_log, new_redis_log

PARTITIONS = 2
WHY = "venue delisted the pool"


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[EventLog]:
    async with new_log(log_url, PARTITIONS) as made:
        yield made


@pytest.fixture
async def redis_log(redis_url: str) -> AsyncIterator[RedisLog]:
    async with new_redis_log(redis_url, PARTITIONS) as opened:
        yield opened


async def one_parked(log: EventLog, service: str = "router", reason: str = "ValueError: no") -> tuple[Snapshot, Parked]:
    """An order whose item `service` could not handle."""
    step, made = a_request(log.partitions)
    await log.commit(step)
    item = (await log.take("router", "a", 16, 100))[0]
    if service == "executor":
        step, made = then(made, routing_started(), route_selected(), item=item)
        await log.commit(step)
        item = (await log.take("executor", "a", 16, 100))[0]
    assert await log.park(item, reason, "f1")
    [parked] = await log.parked()
    return made, parked


async def test_a_parked_item_tells_what_failed_when_and_how_often(log: EventLog) -> None:
    made, parked = await one_parked(log)

    assert (parked.service, parked.order_id, parked.reason) == ("router", made.order.id, "ValueError: no")
    assert (parked.event_id, parked.event_type) == (made.event.id, "OrderRequested")
    assert (parked.deliveries, parked.fingerprint) == (1, "f1")
    assert 0 < parked.made_ms <= parked.parked_ms


async def test_discarding_ends_the_order_once_and_its_owner_can_see_why(log: EventLog) -> None:
    made, parked = await one_parked(log, "executor")
    order = await discard(log, parked, by="mara", reason=WHY, now=NOW)

    assert order is not None
    assert order.status is Status.FAILED
    last = (await log.history(made.order.id))[-1].decode()
    assert isinstance(last.data, OrderFailed)
    assert (last.version, last.source, last.cause) == (made.order.version + 1, "ops", made.event.id)
    assert (last.data.stage, str(last.data.reason), last.data.detail) == ("execution", "discarded_by_operator", WHY)
    assert await log.parked() == []
    assert [await log.backlog(service) for service in ("router", "executor")] == [0, 0]
    [kept] = await log.discarded()
    assert (kept.parked, kept.by, kept.reason) == (parked, "mara", WHY)
    assert kept.at_ms >= parked.parked_ms


async def test_discarding_again_changes_nothing(log: EventLog) -> None:
    made, parked = await one_parked(log)
    await asyncio.gather(
        *(discard(log, parked, by="mara", reason=WHY, now=NOW) for _ in range(3)), return_exceptions=True
    )
    await discard(log, parked, by="mara", reason=WHY, now=NOW)

    assert [entry.fields["type"] for entry in await log.history(made.order.id)] == ["OrderRequested", "OrderFailed"]
    assert len(await log.discarded()) == 1


async def test_an_order_that_ended_by_itself_keeps_its_end(log: EventLog) -> None:
    made, parked = await one_parked(log)
    cancel, _ = then(made, OrderCancelled(), source="gateway")
    await log.commit(cancel)
    order = await discard(log, parked, by="mara", reason=WHY, now=NOW)

    assert order is not None
    assert order.status is Status.CANCELLED
    assert len(await log.discarded()) == 1


async def test_a_submitted_order_is_not_discarded_while_its_transaction_may_settle(log: EventLog) -> None:
    made, _ = await one_parked(log, "executor")
    step, _ = then(made, tx_submitted(), source="executor")
    await log.commit(step)
    [parked] = await log.parked()

    with pytest.raises(NotDiscardable, match="sig-1 may still settle"):
        await discard(log, parked, by="mara", reason=WHY, now=NOW)
    assert await log.parked() == [parked]
    assert await log.discarded() == []
    order = await discard(log, parked, by="mara", reason=WHY, now=NOW, not_settled=True)
    assert order is not None
    assert order.status is Status.FAILED


async def test_a_redriven_item_is_gone_for_a_discard_and_the_other_way_round(log: EventLog) -> None:
    _, parked = await one_parked(log)
    assert await log.redrive(parked)
    assert not await log.discard(parked, "mara", WHY)
    [item] = await log.take("router", "a", 16, 100)
    assert await log.park(item, "again", "f2")
    [again] = await log.parked()
    assert await log.discard(again, "mara", WHY)
    assert not await log.redrive(again)
    assert await log.backlog("router") == 0


async def test_redrive_writes_no_fact_and_moves_no_reader(log: EventLog) -> None:
    _, parked = await one_parked(log)
    await log.register_reader("projector", {parked.partition: await log.tip(parked.partition)})
    before = [await log.tip(partition) for partition in range(PARTITIONS)]
    assert await log.redrive(parked)

    assert [await log.tip(partition) for partition in range(PARTITIONS)] == before
    assert await log.backlog("router") == 1


async def test_an_item_that_names_no_order_can_still_be_thrown_away(redis_log: RedisLog) -> None:
    keys = Keys(0)
    await redis_log._redis.send([["XADD", keys.work("router"), "*", "state", "{", "data", "\xff"]])
    [item] = await redis_log.take("router", "a", 16, 100)
    assert await redis_log.park(item, "cannot be decoded", "f")
    [parked] = await redis_log.parked()

    assert (parked.order_id, parked.event_id) == ("", "")
    assert not await redis_log.redrive(parked)
    assert await discard(redis_log, parked, by="mara", reason=WHY, now=NOW) is None
    assert [kept.reason for kept in await redis_log.discarded()] == [WHY]


async def test_an_order_whose_state_cannot_be_read_is_left_to_a_release_that_can(redis_log: RedisLog) -> None:
    made, parked = await one_parked(redis_log)
    await redis_log._redis.send([["HSET", Keys(parked.partition).order(made.order.id), "OrderRequested", "9 1 x"]])

    with pytest.raises(NotDiscardable, match="cannot read"):
        await discard(redis_log, parked, by="mara", reason=WHY, now=NOW)
    assert await redis_log.parked() == [parked]


async def test_parked_items_come_oldest_first_from_all_partitions(redis_log: RedisLog) -> None:
    items: list[Item] = []
    for number in range(12):
        step, _ = a_request(PARTITIONS, f"user-{number}")
        assert isinstance(await redis_log.commit(step), Committed)
    while len(items) < 12:
        items += await redis_log.take("router", "a", 16, 100)
    for item in items:
        assert await redis_log.park(item, "no", "f")
    found = await redis_log.parked(100)

    assert [p.parked_ms for p in found] == sorted(p.parked_ms for p in found)
    assert len(found) == 12
    assert {p.partition for p in found} == {0, 1}
    assert len(await redis_log.parked(5)) == 5
