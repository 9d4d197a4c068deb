"""What every log promises of its events, whatever it is made of: the same tests on memory and on Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.events.ids import START, partition_of
from libs.events.log import Committed, Conflict, Duplicate, EventLog, Idempotency, Only, TooManyOpen
from libs.events.model import OrderCancelled
from libs.events.order import evolve
from tests.builders import a_request, route_selected, routing_started, then, tx_confirmed, tx_submitted
from tests.contract.event_log_rig import PARTITIONS, everything, new_log, one_item, requested


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[EventLog]:
    async with new_log(log_url) as made:
        yield made


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


async def test_of_one_user_only_so_many_orders_are_open_and_each_end_makes_room(log: EventLog) -> None:
    first, made = a_request(PARTITIONS, idempotency=Idempotency("key-1", "print"), open_max=2)
    again, _ = a_request(PARTITIONS, idempotency=Idempotency("key-1", "print"), open_max=2)
    keys = [None, Idempotency("key-2", "print"), None]
    more = [a_request(PARTITIONS, idempotency=key, open_max=2)[0] for key in keys]
    other, _ = a_request(PARTITIONS, user="user-2", open_max=2)
    outcomes = await log.commit_many([first, *more, again, other])
    assert [type(outcome) for outcome in outcomes] == [
        Committed, Committed, TooManyOpen, TooManyOpen, Duplicate, Committed,
    ]  # fmt: skip
    assert outcomes[2] == TooManyOpen(2)
    assert await log.find(more[1].order_id) is None
    assert await log.commit(first) == Conflict(made)

    ended, _ = then(made, OrderCancelled(), source="gateway")
    assert isinstance(await log.commit(ended), Committed)
    assert isinstance(await log.commit(more[1]), Committed)
    assert await log.commit(more[2]) == TooManyOpen(2)


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


async def test_several_events_of_one_step_are_written_together(log: EventLog) -> None:
    made = await requested(log)
    item = await one_item(log)
    step, now = then(made, routing_started(), route_selected(), item=item)
    outcome = await log.commit(step)

    assert isinstance(outcome, Committed)
    assert len(outcome.at) == 2
    assert await log.find(made.order.id) == now


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


async def test_any_number_may_ask_for_a_history_at_once(log: EventLog) -> None:
    order_id = (await requested(log)).order.id
    for history in await asyncio.gather(*(log.history(order_id) for _ in range(150))):
        assert [entry.fields["id"] for entry in history] == [f"{order_id}/1"]


async def test_any_number_may_read_on_from_a_place_at_once(log: EventLog) -> None:
    partition = partition_of((await requested(log)).order.id)

    async def first() -> str:
        await log.tip(partition)
        [entry] = await log.read({partition: START}, 1, 0)
        return entry.fields["version"]

    assert await asyncio.gather(*(first() for _ in range(150))) == ["1"] * 150


async def test_recent_orders_are_newest_first_and_pages_meet(log: EventLog) -> None:
    made = [(await requested(log)).order.id for _ in range(5)]
    await requested(log, "somebody-else")
    newest = sorted(made, reverse=True)

    assert await log.recent("user-1", None, 3) == newest[:3]
    assert await log.recent("user-1", newest[2], 3) == newest[3:]
    assert set(await log.find_many(made)) == set(made)


async def test_of_one_users_orders_only_the_newest_thousand_are_sure_to_be_recent(log: EventLog) -> None:
    steps = [a_request(PARTITIONS)[0] for _ in range(1_300)]
    for first in range(0, len(steps), 100):
        await log.commit_many(steps[first : first + 100])

    newest = sorted((step.order_id for step in steps), reverse=True)
    recent = await log.recent("user-1", None, len(steps))
    assert 1_000 <= len(recent) <= 1_200
    assert recent == newest[: len(recent)]
    assert await log.recent_since("user-1") == recent[-1]


async def test_of_a_user_with_few_orders_none_is_forgotten(log: EventLog) -> None:
    await requested(log)
    assert await log.recent_since("user-1") is None
    assert await log.recent_since("nobody") is None


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
