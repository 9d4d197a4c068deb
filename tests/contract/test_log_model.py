"""The log in memory is a model of the one in Redis: whatever is done to both, in any order, both say the same."""

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from libs.events.ids import START
from libs.events.log import Committed, Conflict, Entry, EventLog, Idempotency, Outcome, Snapshot, Step
from libs.events.memory_log import MemoryLog
from libs.events.model import (
    AttemptFailed,
    Event,
    OrderCancelled,
    OrderRequested,
    RouteSelected,
    RoutingStarted,
    TxSubmitted,
)
from libs.events.parked import Parked
from libs.events.reactions import ROUTER, TERMINAL, WORKERS
from libs.events.redis_log import open_redis_log
from libs.events.work import Item
from tests.builders import a_request, attempt_failed, route_selected, routing_started, then, tx_confirmed, tx_submitted

PARTITIONS = 2
NEVER_MS = 10**9
T = TypeVar("T")

USERS = ("user-1", "user-2", "user-3")
users = st.sampled_from(USERS)
services = st.sampled_from(WORKERS)
consumers = st.sampled_from(["a", "b"])


@dataclass(frozen=True)
class Pair:
    """The same thing in both logs."""

    memory: Any
    redis: Any


class BothLogs(RuleBasedStateMachine):
    """Every operation of the port, done to both."""

    orders: Bundle[Snapshot] = Bundle("orders")
    items: Bundle[Pair] = Bundle("items")
    set_aside: Bundle[Pair] = Bundle("set_aside")
    url = ""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.undo = AsyncExitStack()
        self.memory = MemoryLog(PARTITIONS)
        self.redis = self.run(self._open())

    async def _open(self) -> EventLog:
        log = await self.undo.enter_async_context(open_redis_log(self.url, PARTITIONS))
        await log._redis.send([["FLUSHALL"]])
        await log.start(create=True)
        return log

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def both(self, name: str, *args: Any, pair: Pair | None = None) -> tuple[Any, Any]:
        """Call a method of both; a pair is what each gets of its own."""
        first, second = ((pair.memory,), (pair.redis,)) if pair else ((), ())
        return (
            self.run(getattr(self.memory, name)(*first, *args)),
            self.run(getattr(self.redis, name)(*second, *args)),
        )

    def commit(self, step: Step, item: Pair | None = None) -> Outcome:
        memory, redis = (replace(step, item=getattr(item, side) if item else None) for side in ("memory", "redis"))
        told, really = self.run(self.memory.commit(memory)), self.run(self.redis.commit(redis))
        assert _comparable(told) == _comparable(really)
        return told

    @rule(target=orders, user=users, key=st.sampled_from([None, "k1", "k2"]), fingerprint=st.sampled_from("xy"))
    def request(self, user: str, key: str | None, fingerprint: str) -> Any:
        step, made = a_request(PARTITIONS, user, Idempotency(key, fingerprint) if key else None)
        self.commit(step)
        return made

    @rule(target=orders, before=orders, choice=st.integers(0, 3), item=st.none() | items)
    def go_on(self, before: Snapshot, choice: int, item: Pair | None) -> Any:
        """From what an order is, or once was; with an item that is, or was, in hand."""
        bodies = _next(before)
        if not bodies:
            return multiple()
        mine = item if item and item.memory.order_id == before.order.id else None
        step, after = then(before, bodies[choice % len(bodies)])
        outcome = self.commit(step, mine)
        if isinstance(outcome, Conflict):
            return outcome.now or before
        # What was not written is no state of the order, and nobody goes on from it.
        return after if isinstance(outcome, Committed) else multiple()

    @rule(target=orders, item=items, choice=st.integers(0, 3))
    def act(self, item: Pair, choice: int) -> Any:
        """As a worker does: on what the order is now."""
        held = self.run(self.memory.find(item.memory.order_id))
        assert held
        return self.go_on(held, choice, item)

    @rule(target=items, user=users, consumer=consumers)
    def request_and_take(self, user: str, consumer: str) -> Any:
        self.request(user, None, "")
        return self._paired(*self.both("take", ROUTER, consumer, 8, 0))

    @rule(item=items)
    def finish(self, item: Pair) -> None:
        held = self.run(self.memory.find(item.memory.order_id))
        assert held
        self.commit(Step(held.order.id, held.order.user, held.order.version), item)

    @rule(target=items, service=services, consumer=consumers, count=st.integers(1, 8))
    def take(self, service: str, consumer: str, count: int) -> Any:
        return self._paired(*self.both("take", service, consumer, count, 0))

    @rule(target=items, service=services, consumer=consumers)
    def take_pending(self, service: str, consumer: str) -> Any:
        return self._paired(*self.both("take_pending", service, consumer))

    @rule(target=items, service=services, consumer=consumers, idle_ms=st.sampled_from([0, NEVER_MS]))
    def claim(self, service: str, consumer: str, idle_ms: int) -> Any:
        return self._paired(*self.both("claim", service, consumer, idle_ms))

    @rule(item=items)
    def renew(self, item: Pair) -> None:
        self.run(self.memory.renew([item.memory]))
        self.run(self.redis.renew([item.redis]))

    @rule(item=items)
    def count_delivery(self, item: Pair) -> None:
        told, really = self.both("count_delivery", pair=item)
        assert told == really

    @rule(target=set_aside, item=items)
    def park(self, item: Pair) -> Any:
        before = {parked.id for parked in self.run(self.memory.parked())}
        before |= {parked.id for parked in self.run(self.redis.parked())}
        told, really = self.both("park", "why", "print", pair=item)
        assert told == really
        new = [[one for one in parked if one.id not in before] for parked in self.both("parked")]
        assert [_parked(one) for one in new[0]] == [_parked(one) for one in new[1]]
        return multiple(*(Pair(*pair) for pair in zip(*new, strict=True)))

    @rule(parked=set_aside)
    def redrive(self, parked: Pair) -> None:
        told, really = self.both("redrive", pair=parked)
        assert told == really

    @rule(parked=consumes(set_aside))
    def discard(self, parked: Pair) -> None:
        told, really = self.both("discard", "me", "no use", pair=parked)
        assert told == really

    @rule()
    def move_due(self) -> None:
        told, really = self.both("move_due")
        assert told == really

    @rule()
    def look(self) -> None:
        for user in USERS:
            told, really = self.both("recent", user, None, 10)
            assert told == really
        for service in WORKERS:
            told, really = self.both("backlog", service)
            assert told == really
        told, really = self.both("read", dict.fromkeys(range(PARTITIONS), START), 10_000, 0)
        assert _log(told) == _log(really)
        for order_id in {entry.fields["subject"] for entry in told}:
            told, really = self.both("find", order_id)
            assert told == really
        told, really = self.both("parked")
        assert sorted(map(_parked, told)) == sorted(map(_parked, really))

    def teardown(self) -> None:
        self.look()
        self.run(self.undo.aclose())
        self.runner.close()

    def _paired(self, told: list[Item], really: list[Item]) -> Any:
        told, really = sorted(told, key=_item), sorted(really, key=_item)
        assert [_item(item) for item in told] == [_item(item) for item in really]
        return multiple(*(Pair(*pair) for pair in zip(told, really, strict=True)))


def _next(before: Snapshot) -> list[Event]:
    """What may follow, whoever says it."""
    if before.order.status in TERMINAL:
        return []
    attempt = before.order.attempt
    failures: list[Event] = [attempt_failed(attempt, delay_ms=0), attempt_failed(attempt, delay_ms=NEVER_MS)]
    match before.event.data:
        case OrderRequested() | AttemptFailed():
            return [routing_started(attempt + 1), OrderCancelled()]
        case RoutingStarted():
            return [route_selected(attempt), *failures, OrderCancelled()]
        case RouteSelected():
            return [tx_submitted(attempt), *failures, OrderCancelled()]
        case TxSubmitted():
            return [tx_confirmed(attempt), *failures]
    raise AssertionError(before.event.type)


def _comparable(outcome: Outcome) -> object:
    places = getattr(outcome, "at", None)
    return [at.position for at in places] if places is not None else outcome


def _item(item: Item) -> tuple[object, ...]:
    # Not what it brought along: that may be older than the order is by now, and a commit would say so.
    return item.partition, item.order_id, item.service, item.consumer, item.deliveries


def _parked(parked: Parked) -> tuple[object, ...]:
    return parked.partition, parked.service, parked.order_id, parked.reason, parked.deliveries, parked.event_id


def _log(entries: Iterable[Entry]) -> list[tuple[int, int, list[tuple[str, str]]]]:
    return sorted((entry.partition, entry.at.position, sorted(entry.fields.items())) for entry in entries)


@pytest.mark.parametrize(("server", "examples"), [("redis", 50), ("cluster", 15)])
def test_both_logs_say_the_same(request: pytest.FixtureRequest, server: str, examples: int) -> None:
    class Machine(BothLogs):
        url = str(request.getfixturevalue(f"{server}_url"))

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=100, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
