"""What every log promises, whatever it is made of: the same tests on memory and on Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.events.ids import START, Position, partition_of
from libs.events.log import Committed, Conflict, Duplicate, EventLog, Idempotency, Item, NotYours, Only, Snapshot, Step
from libs.events.memory_log import MemoryLog
from libs.events.model import OrderCancelled
from libs.events.order import evolve
from libs.events.redis_log import open_redis_log
from tests.builders import (
    a_request,
    attempt_failed,
    route_selected,
    routing_started,
    then,
    tx_confirmed,
    tx_submitted,
)
from tests.waiting import eventually

PARTITIONS = 4


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[EventLog]:
    if not log_url:
        yield MemoryLog(PARTITIONS)
        return
    async with open_redis_log(log_url, PARTITIONS) as redis_log:
        await redis_log._redis.send([["FLUSHALL"]])
        await redis_log.start(create=True)
        yield redis_log


async def requested(log: EventLog, user: str = "user-1") -> Snapshot:
    step, then_ = a_request(log.partitions, user)
    assert isinstance(await log.commit(step), Committed)
    return then_


async def one_item(log: EventLog, service: str = "router", consumer: str = "a") -> Item:
    items = await eventually(lambda: log.take(service, consumer, 16, 100), what=f"an item for {service}")
    assert len(items) == 1
    return items[0]


async def everything(log: EventLog) -> list[tuple[int, Position, str]]:
    entries = await log.read(dict.fromkeys(range(log.partitions), START), 1_000, 0)
    return [(entry.partition, entry.at, entry.fields["id"]) for entry in entries]


def of_either(user: str, order_id: str) -> Only:
    return lambda owner, order: owner == user or order == order_id


async def test_who_wants_some_entries_gets_those_and_the_last(log: EventLog) -> None:
    users = ["user-1", "user-2", "user-1", "user-3", "user-2"]
    orders = [await requested(log, user) for user in users]
    everywhere = dict.fromkeys(range(log.partitions), START)
    for user, order_id in (("user-1", ""), ("", orders[1].order.id), ("nobody", "nothing")):
        whole = await log.read(everywhere, 1_000, 0)
        some = await log.read(everywhere, 1_000, 0, of_either(user, order_id))
        wanted = [entry for entry in whole if entry.fields["user"] == user or entry.fields["subject"] == order_id]
        lasts = {entry.partition: entry for entry in whole}.values()
        assert [entry for entry in whole if entry in wanted or entry in lasts] == some


async def test_a_new_order_is_in_the_log_at_position_one(log: EventLog) -> None:
    step, _ = a_request(PARTITIONS)
    outcome = await log.commit(step)

    assert isinstance(outcome, Committed)
    partition = partition_of(step.order_id)
    assert [position.position for position in outcome.at] == [1]
    assert await everything(log) == [(partition, outcome.at[0], f"{step.order_id}/1")]
    assert await log.tip(partition) == outcome.at[0]


async def test_positions_are_contiguous_and_ids_never_go_back(log: EventLog) -> None:
    await asyncio.gather(*(requested(log) for _ in range(250)))
    entries = await everything(log)

    assert [at.position for _, at, _ in entries] == list(range(1, 251))
    assert [at.ms for _, at, _ in entries] == sorted(at.ms for _, at, _ in entries)


async def test_the_same_order_is_made_only_once(log: EventLog) -> None:
    step, made = a_request(PARTITIONS)
    await log.commit(step)
    again = await log.commit(step)

    assert again == Conflict(made)
    assert len(await everything(log)) == 1


async def test_a_taken_idempotency_key_answers_with_its_order_and_fingerprint(log: EventLog) -> None:
    first, _ = a_request(PARTITIONS, idempotency=Idempotency("key-1", "print-1"))
    second, _ = a_request(PARTITIONS, idempotency=Idempotency("key-1", "print-2"))
    other_user, _ = a_request(PARTITIONS, user="user-2", idempotency=Idempotency("key-1", "print-1"))
    outcomes = await asyncio.gather(*(log.commit(step) for step in (first, second, other_user)))

    assert isinstance(outcomes[0], Committed)
    assert outcomes[1] == Duplicate(first.order_id, "print-1")
    assert isinstance(outcomes[2], Committed)
    assert await log.find(second.order_id) is None


async def test_a_wrong_version_is_a_conflict_that_tells_the_present_state(log: EventLog) -> None:
    made = await requested(log)
    first, now = then(made, routing_started())
    await log.commit(first)
    late, _ = then(made, OrderCancelled(), source="gateway")

    assert await log.commit(late) == Conflict(now)


async def test_an_order_the_log_does_not_hold_is_a_conflict_with_nothing(log: EventLog) -> None:
    _, never = a_request(PARTITIONS)
    step, _ = then(never, routing_started())

    assert await log.commit(step) == Conflict(None)


async def test_a_new_order_is_work_for_the_router(log: EventLog) -> None:
    made = await requested(log)
    item = await one_item(log)

    assert item.order_id == made.order.id
    assert item.deliveries == 1
    assert item.fields["last"] == "OrderRequested"
    assert await log.take("executor", "a", 16, 0) == []
    assert await log.backlog("router") == 1


async def test_an_item_stays_in_hand_while_the_same_service_acts_next(log: EventLog) -> None:
    made = await requested(log)
    item = await one_item(log)
    step, now = then(made, routing_started(), item=item)
    assert isinstance(await log.commit(step), Committed)

    assert await log.take("router", "a", 16, 0) == []
    step, _ = then(now, route_selected(), item=item)
    assert isinstance(await log.commit(step), Committed)
    assert await log.backlog("router") == 0
    handed_on = await one_item(log, "executor")
    assert handed_on.fields["last"] == "RouteSelected"


async def test_several_events_of_one_step_are_written_together(log: EventLog) -> None:
    made = await requested(log)
    item = await one_item(log)
    step, now = then(made, routing_started(), route_selected(), item=item)
    outcome = await log.commit(step)

    assert isinstance(outcome, Committed)
    assert len(outcome.at) == 2
    assert await log.find(made.order.id) == now


async def test_two_workers_on_one_item_leave_one_result(log: EventLog) -> None:
    made = await requested(log)
    stale = await one_item(log, consumer="a")
    [stolen] = await log.claim("router", "b", 0)
    assert stolen.deliveries == 2

    first, now = then(made, routing_started(), item=stolen)
    assert isinstance(await log.commit(first), Committed)
    late, _ = then(made, routing_started(), item=stale)
    assert await log.commit(late) == Conflict(now)
    uninformed, _ = then(now, route_selected(), item=stale)
    assert await log.commit(uninformed) == NotYours()
    assert [name for *_, name in await everything(log)] == [f"{made.order.id}/1", f"{made.order.id}/2"]


async def test_a_finished_item_is_released_without_writing(log: EventLog) -> None:
    made = await requested(log)
    item = await one_item(log)
    cancel, now = then(made, OrderCancelled(), source="gateway")
    assert isinstance(await log.commit(cancel), Committed)
    assert await log.backlog("router") == 1

    released = await log.commit(Step(made.order.id, made.order.user, now.order.version, item=item))
    assert isinstance(released, Committed)
    assert await log.backlog("router") == 0
    assert len(await everything(log)) == 2


async def test_a_delayed_retry_becomes_work_when_it_is_due(log: EventLog) -> None:
    made = await requested(log)
    step, now = then(made, routing_started(), attempt_failed(delay_ms=30), item=await one_item(log))
    await log.commit(step)

    assert await log.backlog("router") == 0
    assert await eventually(log.move_due, what="the timer is due") == 1
    item = await one_item(log)
    assert item.fields["last"] == "AttemptFailed"
    assert await log.move_due() == 0
    assert await log.find(made.order.id) == now


async def test_a_cancelled_order_has_no_timer(log: EventLog) -> None:
    made = await requested(log)
    step, now = then(made, routing_started(), attempt_failed(delay_ms=0), item=await one_item(log))
    await log.commit(step)
    cancel, _ = then(now, OrderCancelled(), source="gateway")
    await log.commit(cancel)

    assert await log.move_due() == 0
    assert await log.backlog("router") == 0


async def test_own_pending_items_come_back_counted(log: EventLog) -> None:
    made = [await requested(log, f"user-{number}") for number in range(150)]
    taken: list[Item] = []
    while len(taken) < len(made):
        taken += await log.take("router", "a", 64, 100)
    back = await log.take_pending("router", "a")

    assert {item.order_id for item in back} == {order.order.id for order in made}
    assert {item.deliveries for item in back} == {2}
    assert await log.take_pending("router", "b") == []


async def test_renewed_items_are_not_claimed(log: EventLog) -> None:
    await requested(log)
    item = await one_item(log)
    await log.renew([item])

    assert await log.claim("router", "b", 60_000) == []
    assert len(await log.claim("router", "b", 0)) == 1


async def test_deliveries_are_counted_before_a_try(log: EventLog) -> None:
    await requested(log)
    item = await one_item(log)

    assert await log.count_delivery(item) == 2
    assert await log.count_delivery(item) == 3


async def test_a_try_that_was_broken_off_is_taken_back(log: EventLog) -> None:
    await requested(log)
    item = await one_item(log)
    assert await log.count_delivery(item) == 2
    assert await log.count_delivery(item) == 3
    await log.uncount_delivery([item])
    assert await log.count_delivery(item) == 3
    (claimed,) = await eventually(lambda: log.claim("router", "b", 0), what="the item is claimed")
    await log.uncount_delivery([item])  # another's by now
    assert await log.count_delivery(claimed) == 4
    await log.uncount_delivery([])


async def test_a_parked_item_waits_for_redrive_and_comes_back_with_the_present_state(log: EventLog) -> None:
    made = await requested(log)
    item = await one_item(log)
    assert await log.park(item, "cannot be decoded", "f1")
    assert not await log.park(item, "again", "f1")
    assert await log.backlog("router") == 0

    [parked] = await log.parked()
    assert (parked.service, parked.order_id, parked.reason) == ("router", made.order.id, "cannot be decoded")
    step, now = then(made, OrderCancelled(), source="gateway")
    await log.commit(step)
    assert await log.redrive(parked)
    assert not await log.redrive(parked)
    again = await one_item(log)
    assert again.fields["version"] == str(now.order.version)
    assert await log.parked() == []


async def test_history_is_the_orders_events_in_version_order(log: EventLog) -> None:
    made = await requested(log)
    await requested(log)
    step, now = then(made, routing_started(), route_selected())
    await log.commit(step)
    step, now = then(now, tx_submitted(), source="executor")
    await log.commit(step)
    step, now = then(now, tx_confirmed(), source="executor")
    await log.commit(step)

    order = None
    history = [entry.decode() for entry in await log.history(made.order.id)]
    for event in history:
        order = evolve(order, event)
    assert [event.version for event in history] == [1, 2, 3, 4, 5]
    assert order == now.order


async def test_recent_orders_are_newest_first_and_pages_meet(log: EventLog) -> None:
    made = [(await requested(log)).order.id for _ in range(5)]
    await requested(log, "somebody-else")
    newest = sorted(made, reverse=True)

    assert await log.recent("user-1", None, 3) == newest[:3]
    assert await log.recent("user-1", newest[2], 3) == newest[3:]
    assert set(await log.find_many(made)) == set(made)


async def test_a_reader_waits_for_what_comes_next(log: EventLog) -> None:
    after = dict.fromkeys(range(PARTITIONS), START)
    waiting = asyncio.create_task(log.read(after, 10, 2_000))
    made = await requested(log)

    [entry] = await waiting
    assert entry.decode() == made.event


async def test_a_reader_that_pages_sees_everything_once(log: EventLog) -> None:
    for number in range(30):
        await requested(log, f"user-{number % 3}")
    after, seen = dict.fromkeys(range(PARTITIONS), START), []
    while page := await log.read(after, 4, 0):
        for entry in page:
            after[entry.partition] = entry.at
            seen.append(entry.fields["id"])

    assert len(seen) == len(set(seen)) == 30


async def test_concurrent_commits_of_one_version_leave_one(log: EventLog) -> None:
    made = await requested(log)
    steps = [then(made, routing_started())[0], then(made, OrderCancelled())[0], then(made, routing_started())[0]]
    outcomes = await asyncio.gather(*(log.commit(step) for step in steps))

    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 1
    assert len(await everything(log)) == 2


async def test_counting_a_delivery_takes_the_item_back_as_renewing_does(log: EventLog) -> None:
    made = await requested(log)
    mine = await one_item(log)
    (claimed,) = await eventually(lambda: log.claim("router", "b", 0), what="the item is claimed")
    assert await log.count_delivery(mine) == 2
    step, _ = then(made, routing_started(), item=claimed)
    assert await log.commit(step) == NotYours()
    step, _ = then(made, routing_started(), item=mine)
    assert isinstance(await log.commit(step), Committed)
