"""What Redis keeps of an order is read as that order or not at all: who acted on half of it would act twice."""

import pytest

from libs.events.envelope import Envelope
from libs.events.record import record, snapshot
from tests.builders import a_request, route_selected, routing_started, then, tx_submitted


def kept() -> tuple[str, dict[str, str]]:
    """An order with a signed transaction, as the commit script leaves it."""
    _, now = a_request(4)
    events: list[Envelope] = [now.event]
    for body in (routing_started(), route_selected(), tx_submitted()):
        _, now = then(now, body)
        events.append(now.event)
    return now.order.id, record(now.order, [event.fields() for event in events], "1-1 1-2 1-3 1-4")


def test_what_is_whole_is_the_order_and_its_last_event() -> None:
    order_id, fields = kept()
    held = snapshot(order_id, fields)
    assert held
    assert (held.order.version, held.order.signature, held.event.type) == (4, "sig-1", "TxSubmitted")


@pytest.mark.parametrize("gone", ["TxSubmitted", "OrderRequested", "version", "last", "user"])
def test_an_order_of_which_something_is_gone_is_none(gone: str) -> None:
    order_id, fields = kept()
    del fields[gone]
    with pytest.raises(ValueError, match=r"not there|begins with|is missing"):
        snapshot(order_id, fields)


@pytest.mark.parametrize(("field", "other"), [("last", "RouteSelected"), ("version", "5"), ("version", "3")])
def test_an_order_whose_last_event_is_another_is_none(field: str, other: str) -> None:
    order_id, fields = kept()
    with pytest.raises(ValueError, match=r"its last event, .* is not there"):
        snapshot(order_id, fields | {field: other})


def test_an_order_of_no_event_at_all_is_none() -> None:
    order_id, fields = kept()
    own = {name: fields[name] for name in ("user", "version", "status", "last", "trail")}
    with pytest.raises(ValueError, match="is not there"):
        snapshot(order_id, own)


def test_an_order_that_begins_as_a_later_release_writes_it_is_said_to_be_of_one() -> None:
    order_id, fields = kept()
    fields["OrderRequested"] = fields["OrderRequested"].replace("1 1 ", "99 1 ", 1)
    with pytest.raises(ValueError, match="does not know how it begins"):
        snapshot(order_id, fields)


def test_what_was_let_go_of_is_no_order_any_more() -> None:
    order_id, fields = kept()
    assert snapshot(order_id, {name: fields[name] for name in ("version", "trail")}) is None
    assert snapshot(order_id, {}) is None
