"""What every log promises of the work it hands out: each item to one, until its step is done, delayed or set aside."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.events.log import Committed, Conflict, EventLog, NotYours, Step
from libs.events.model import OrderCancelled
from libs.events.work import Item
from tests.builders import attempt_failed, route_selected, routing_started, then
from tests.contract.event_log_rig import everything, new_log, one_item, requested
from tests.waiting import eventually


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[EventLog]:
    async with new_log(log_url) as made:
        yield made


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


async def test_renewed_items_are_in_the_hands_of_who_renews_them(log: EventLog) -> None:
    made = {order.order.id: order for order in [await requested(log, f"user-{number}") for number in range(8)]}
    mine: list[Item] = []
    while len(mine) < len(made):
        mine += await log.take("router", "a", 16, 100)
    claimed = await eventually(lambda: log.claim("router", "b", 0), what="the items are claimed")
    assert len(claimed) == len(made)
    await log.renew([*mine[4:], *mine[:4]])

    assert await log.claim("router", "b", 60_000) == []
    assert await log.take_pending("router", "b") == []
    for item in mine:
        step, _ = then(made[item.order_id], routing_started(), item=item)
        assert isinstance(await log.commit(step), Committed)


async def test_who_asks_for_work_waits_for_it(log: EventLog) -> None:
    asking = asyncio.create_task(log.take("router", "a", 16, 60_000))
    await log.tip(0)  # which is asked later, and answered
    made = await requested(log)
    assert [item.order_id for item in await asking] == [made.order.id]


async def test_who_has_little_room_gets_little(log: EventLog) -> None:
    for _ in range(3):
        await requested(log)
    assert [len(await log.take("router", "a", 1, 0)) for _ in range(4)] == [1, 1, 1, 0]


async def test_a_retry_that_is_due_is_one_item_however_many_look_at_once(log: EventLog) -> None:
    made = await requested(log)
    step, _ = then(made, routing_started(), attempt_failed(delay_ms=0), item=await one_item(log))
    await log.commit(step)
    assert sorted(await asyncio.gather(*(log.move_due() for _ in range(3)))) == [0, 0, 1]
    assert await log.backlog("router") == 1


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


async def test_counting_a_delivery_takes_the_item_back_as_renewing_does(log: EventLog) -> None:
    made = await requested(log)
    mine = await one_item(log)
    (claimed,) = await eventually(lambda: log.claim("router", "b", 0), what="the item is claimed")
    assert await log.count_delivery(mine) == 2
    step, _ = then(made, routing_started(), item=claimed)
    assert await log.commit(step) == NotYours()
    step, _ = then(made, routing_started(), item=mine)
    assert isinstance(await log.commit(step), Committed)
