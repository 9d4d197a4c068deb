"""Entries are missing on our side while somebody is read for: he gets a reset, and nothing until a snapshot follows."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
import pytest

from libs.events.ids import Cursor, partition_of_user
from libs.events.log import Committed, Entry, Snapshot, Step
from libs.events.memory_log import MemoryLog
from services.notifier.hub import Hub
from services.notifier.limits import Close, Limits
from services.notifier.subscriber import Subscriber
from services.notifier.wire import Message
from tests.builders import a_request, routing_started, then
from tests.contract.http_gateway import NothingProjected
from tests.contract.notifier_rig import PARTITIONS, InterruptedViews
from tests.waiting import eventually

MINE = partition_of_user("alice", PARTITIONS)


class Wire:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    @property
    def closed(self) -> bool:
        return False

    async def begin(self) -> None:
        """It has begun already."""

    def send(self, messages: Sequence[Message]) -> int:
        self.told += [orjson.loads(message.payload) for message in messages]
        return 0

    def close(self, close: Close, reason: str) -> None:
        raise AssertionError(f"closed with {close.code}: {reason}")


class ReopenedLog(MemoryLog):
    """A log that may be another one from some moment on."""

    now = "the first"

    @property
    def epoch(self) -> str:
        return self.now


class World:
    """A hub without its tail: what is read of the log, and what is missed, is for the test to say."""

    def __init__(self) -> None:
        self.log = ReopenedLog(PARTITIONS)
        self.views = InterruptedViews(self.log, NothingProjected())
        self.hub = Hub(self.log, self.views, Limits())
        self.wire = Wire()

    def listener(self, *orders: Snapshot) -> Subscriber:
        return Subscriber("alice", {one.order.id for one in orders} or None, self.wire, Limits())

    async def commit(self, made: tuple[Step, Snapshot]) -> Snapshot:
        step, now = made
        assert isinstance(await self.log.commit(step), Committed)
        return now

    async def begins_at_the_tips(self) -> None:
        tips = {partition: await self.log.tip(partition) for partition in range(PARTITIONS)}
        self.hub.start_over()
        self.hub.settle(tips)

    async def last_entry(self) -> Entry:
        """The log's last of alice's, and the hub knows what it needs to tell of it."""
        tip = await self.log.tip(MINE)
        [entry] = await self.log.read({MINE: tip._replace(position=tip.position - 1)}, 1, 0)
        await self.hub.prepare([entry])
        return entry

    async def is_told(self) -> None:
        self.hub.deliver(await self.last_entry())
        await self.hub.flush()

    def misses_one(self, last: Snapshot) -> Callable[[], Awaitable[None]]:
        """The next event of this order is lost to the tail, and the one after it is not."""

        async def hole() -> None:
            now = await self.commit(then(last, routing_started()))
            await self.begins_at_the_tips()
            await self.commit(then(now, routing_started(2)))
            await self.is_told()

        return hole

    async def is_up_to_date(self, order_id: str, version: int) -> None:
        """Sooner or later; and behind the reset a snapshot comes first: a gap is never told."""

        def known(body: dict[str, Any]) -> int:
            return next((one["version"] for one in body.get("orders", ()) if one["orderId"] == order_id), 0)

        await eventually(lambda: any(known(body) == version for body in self.wire.told), what="the snapshot")
        began = [body["type"] for body in self.wire.told].index("reset")
        first = next(body for body in self.wire.told[began:] if order_id in (body.get("orderId"), *_ids(body)))
        assert known(first) == version, self.wire.told


def _ids(snapshot: dict[str, Any]) -> list[str]:
    return [one["orderId"] for one in snapshot.get("orders", ())]


@pytest.fixture
async def world() -> World:
    made = World()
    await made.begins_at_the_tips()
    return made


async def test_what_is_delivered_at_once_after_the_reset_is_told_behind_the_snapshot(world: World) -> None:
    order = await world.commit(a_request(PARTITIONS, "alice"))
    assert await world.hub.joining.join(world.listener())
    await world.commit(then(order, routing_started()))
    entry = await world.last_entry()
    world.hub.start_over()
    world.hub.deliver(entry)
    await world.hub.flush()
    await world.is_up_to_date(order.order.id, 2)


async def test_who_joins_is_told_nothing_of_what_was_read_before_the_reset(world: World) -> None:
    order = await world.commit(a_request(PARTITIONS, "alice"))
    world.views.between = world.misses_one(order)
    assert await world.hub.joining.join(world.listener())
    await world.is_up_to_date(order.order.id, 3)


async def test_who_subscribes_to_more_is_not_told_of_the_others_before_their_snapshot(world: World) -> None:
    order, other = [await world.commit(a_request(PARTITIONS, "alice")) for _ in range(2)]
    listener = world.listener(order)
    assert await world.hub.joining.join(listener)
    world.views.between = world.misses_one(order)
    assert await world.hub.joining.subscribe(listener, [other.order.id])
    assert {one["orderId"] for one in world.wire.told[-1]["orders"]} == {other.order.id}, "before it is `subscribed`"
    await world.is_up_to_date(order.order.id, 3)


async def test_who_is_refused_is_not_told_of_the_others_before_their_snapshot(world: World) -> None:
    order, foreign = [await world.commit(a_request(PARTITIONS, user)) for user in ("alice", "bob")]
    listener = world.listener(order)
    assert await world.hub.joining.join(listener)
    world.views.between = world.misses_one(order)
    assert not await world.hub.joining.subscribe(listener, [foreign.order.id])
    await world.is_up_to_date(order.order.id, 3)


async def test_who_comes_back_does_not_go_on_from_his_cursor_over_a_reset(world: World) -> None:
    cursor = str(Cursor(world.log.epoch, MINE, await world.log.tip(MINE)))
    order = await world.commit(a_request(PARTITIONS, "alice"))
    world.views.between = world.misses_one(order)
    listener = world.listener(order)
    assert await world.hub.joining.join(listener, cursor)
    await world.is_up_to_date(order.order.id, 3)


async def test_who_comes_back_while_another_log_is_opened_is_not_told_what_stands_there_behind_his_cursor(
    world: World,
) -> None:
    """What stands before it there he may never have been told of, and the reset that is to come would not show it."""
    order = await world.commit(a_request(PARTITIONS, "alice"))
    cursor = str(Cursor(world.log.epoch, MINE, await world.log.tip(MINE)))
    await world.commit(then(order, routing_started()))

    async def reopened() -> None:
        world.log.now = "the second"

    world.views.between = reopened
    assert await world.hub.joining.join(world.listener(order), cursor)
    assert [body["type"] for body in world.wire.told] == ["reset", "snapshot"]
    await world.begins_at_the_tips()
    await world.is_up_to_date(order.order.id, 2)


async def test_a_cursor_is_of_the_log_that_was_read_also_where_another_one_is_open_already(world: World) -> None:
    """What was lost with the first is not in the second, where the same positions are other events'."""
    order = await world.commit(a_request(PARTITIONS, "alice"))

    async def reopened() -> None:
        world.log.now = "the second"

    world.views.between = reopened
    assert await world.hub.joining.join(world.listener(order))
    await world.commit(then(order, routing_started()))
    await world.is_told()
    world.hub.settle({partition: await world.log.tip(partition) for partition in range(PARTITIONS)})
    await world.hub.beat()
    assert [body["type"] for body in world.wire.told] == ["snapshot", "RoutingStarted", "heartbeat"]
    assert {Cursor.parse(body["cursor"]).epoch for body in world.wire.told} == {"the first"}
    await world.begins_at_the_tips()
    await world.is_up_to_date(order.order.id, 2)
    assert Cursor.parse(world.wire.told[-1]["cursor"]).epoch == "the second"


async def test_the_cursor_of_a_subscription_is_of_before_a_reset_that_came_meanwhile(world: World) -> None:
    order, other = [await world.commit(a_request(PARTITIONS, "alice")) for _ in range(2)]
    listener = world.listener(order)
    assert await world.hub.joining.join(listener)

    async def replaced() -> None:
        world.log.now = "the second"
        await world.begins_at_the_tips()

    world.views.between = replaced
    assert await world.hub.joining.subscribe(listener, [other.order.id])
    assert Cursor.parse(world.wire.told[-1]["cursor"]).epoch == "the first"


async def test_the_cursor_of_a_subscription_right_behind_a_reset_passes_over_nothing(world: World) -> None:
    order, other = [await world.commit(a_request(PARTITIONS, "alice")) for _ in range(2)]
    listener = world.listener(order)
    assert await world.hub.joining.join(listener)
    await world.commit(then(order, routing_started()))  # and nobody is told
    await world.begins_at_the_tips()
    assert await world.hub.joining.subscribe(listener, [other.order.id])  # before the reset's own snapshot
    snapshot = world.wire.told[-1]
    assert Cursor.parse(snapshot["cursor"]).at == await world.log.tip(MINE)
    assert set(_ids(snapshot)) == {order.order.id, other.order.id}
    await world.is_up_to_date(order.order.id, 2)
