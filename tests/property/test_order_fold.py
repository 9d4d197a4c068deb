"""The fold: the same order from any reading of the same events."""

import pytest
from hypothesis import given, strategies as st

from libs.events.envelope import Envelope
from libs.events.errors import VersionGap
from libs.events.log import Snapshot
from libs.events.model import Event, UnknownEvent
from libs.events.order import Order, evolve
from libs.events.record import record, snapshot
from tests.builders import (
    a_request,
    attempt_failed,
    order_opened,
    route_selected,
    routing_started,
    then,
    tx_confirmed,
    tx_submitted,
)

BODIES = [
    routing_started(),
    route_selected(),
    order_opened(1),
    order_opened(3),
    tx_submitted(),
    tx_confirmed(),
    attempt_failed(),
]


def a_history(bodies: list[Event]) -> list[Envelope]:
    _, now = a_request(4)
    history = [now.event]
    for body in bodies:
        _, now = then(now, body)
        history.append(now.event)
    return history


def fold(history: list[Envelope]) -> Order:
    order = None
    for event in history:
        order = evolve(order, event)
    assert order is not None
    return order


@given(st.lists(st.sampled_from(BODIES), max_size=12), st.data())
def test_repeats_change_nothing(bodies: list[Event], data: st.DataObject) -> None:
    history = a_history(bodies)
    repeated: list[Envelope] = []
    for index, event in enumerate(history):
        repeated.append(event)
        again = data.draw(st.lists(st.integers(0, index), max_size=3))
        repeated += [history[earlier] for earlier in again]

    assert fold(repeated) == fold(history)


@given(st.lists(st.sampled_from(BODIES), min_size=2, max_size=12), st.data())
def test_a_missing_event_is_never_passed_over(bodies: list[Event], data: st.DataObject) -> None:
    history = a_history(bodies)
    missing = data.draw(st.integers(0, len(history) - 2))

    with pytest.raises(VersionGap):
        fold(history[:missing] + history[missing + 1 :])


@given(st.lists(st.sampled_from(BODIES), max_size=12))
def test_folding_in_two_sittings_is_folding_in_one(bodies: list[Event]) -> None:
    """The state survives being written as JSON half-way: workers go on from the hash."""
    history = a_history(bodies)
    half = fold(history[: len(history) // 2 + 1])
    order = Order.model_validate_json(half.model_dump_json())
    for event in history:
        order = evolve(order, Envelope.from_fields(event.fields()))

    assert order == fold(history)


def test_an_unknown_event_only_counts() -> None:
    _, made = a_request(4)
    _, now = then(made, routing_started())
    fields = {**now.event.fields(), "type": "OrderBlessed", "data": "{}"}
    event = Envelope.from_fields(fields)
    after = evolve(made.order, event)

    assert isinstance(event.data, UnknownEvent)
    assert after == made.order.model_copy(update={"version": 2, "updated_at": event.time})
    assert Snapshot(after, event).order.status == made.order.status


@given(st.lists(st.sampled_from(BODIES), max_size=12))
def test_the_last_event_of_each_type_folds_to_the_same_order(bodies: list[Event]) -> None:
    """Redis keeps no more of an order than that."""
    history = a_history(bodies)
    order = fold(history)
    kept = record(order, [event.fields() for event in history], "1-1")

    assert snapshot(order.id, kept) == Snapshot(order, history[-1])
