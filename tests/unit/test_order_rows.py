"""Entries become rows and come back to the byte; the fold cache is bounded."""

import pytest
from hypothesis import given, strategies as st

from libs.events.envelope import Envelope
from libs.events.errors import VersionGap
from libs.events.ids import Position
from libs.events.log import Entry
from libs.events.model import Event
from libs.events.order import fold_latest
from libs.orders.copy_text import DELIMITER, NULL, line_of, text_of
from libs.orders.folding import Fold, Folded, Outline
from libs.orders.heads import head_of
from libs.orders.rows import Undecodable, decode, entry_of
from tests.archive_rows import archive_row
from tests.builders import (
    NOW,
    a_request,
    attempt_failed,
    route_selected,
    routing_started,
    then,
    tx_confirmed,
    tx_submitted,
)
from tests.folded import folded

ORDER = "019b7c7e-2a2d-7c3d-8f31-6a1b2c3d4003"


def an_entry(**changes: str | None) -> Entry:
    step, _ = a_request(4)
    fields = {**step.events[0].fields(), **changes}
    return Entry(
        0, Position(1_700_000_000_000, 1), {name: value for name, value in fields.items() if value is not None}
    )


def there_and_back(entry: Entry) -> Entry:
    return entry_of(archive_row(entry))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"type": "OrderAmended", "v": "3", "data": '{ "b":1,\n "a": "\\u00e9\\u0000" }'},
        {"time": "2026-01-02T04:04:05+01:00"},
        {"v": "01"},
        {"shard": "a field of a later release"},
        {"cause": None, "traceparent": None},
    ],
    ids=["plain", "unknown type", "another spelling of the time", "zeros", "a new field", "missing fields"],
)
def test_an_entry_comes_back_as_it_was(changes: dict[str, str | None]) -> None:
    entry = an_entry(**changes)
    assert there_and_back(entry) == entry


def test_a_plain_entry_needs_no_extra_column() -> None:
    entry = an_entry()
    assert archive_row(entry)["extra"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "{}"},
        {"data": None},
        {"version": "zero"},
        {"subject": "not-an-order"},
        {"type": "OrderAmended", "data": "not json"},
    ],
)
def test_what_is_not_an_event_is_named_with_its_place(changes: dict[str, str | None]) -> None:
    with pytest.raises(Undecodable, match="partition 0, entry 1700000000000-1 is not an event"):
        decode(an_entry(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "{}"},
        {"data": "not json"},
        {"type": "TxConfirmed", "data": '{"attempt": 1}'},
        {"type": "TxConfirmed", "data": "[]"},
        {"type": "OrderAmended", "data": "not json"},
        {"time": "2026-13-02T04:04:05.000000Z"},
        {"time": None},
        {"subject": ORDER.upper(), "id": f"{ORDER.upper()}/1"},  # which Postgres would take, and not give back
        {"subject": ORDER.replace("-", ""), "id": f"{ORDER.replace('-', '')}/1"},
    ],
)
def test_what_is_not_an_event_has_no_head(changes: dict[str, str | None]) -> None:
    with pytest.raises(Undecodable, match="partition 0, entry 1700000000000-1 is not an event"):
        head_of(an_entry(**changes))


def test_the_fold_takes_each_version_once_and_in_order() -> None:
    step, snapshot = a_request(4)
    events = list(step.events)
    for body in (routing_started(), routing_started(2)):
        step, snapshot = then(snapshot, body)
        events += step.events
    heads = [head_of(Entry(0, Position(1, event.version), event.fields()))[0] for event in events]
    first, second, third = heads
    fold = Fold({})
    fold.take(first)
    fold.take(second)
    with pytest.raises(VersionGap):
        fold.take(second)
    later = Fold(fold.orders)
    later.take(third)
    assert (later.orders[third.order_id].version, fold.orders[third.order_id].version) == (3, 2)
    for missed in (second, third):
        with pytest.raises(VersionGap):
            Fold({}).take(missed)


BODIES = [routing_started(), route_selected(), tx_submitted(), tx_confirmed(), attempt_failed()]


@given(st.lists(st.sampled_from(BODIES), max_size=12), st.data())
def test_a_row_says_what_the_order_is_and_names_the_events_it_folds_from(
    bodies: list[Event], data: st.DataObject
) -> None:
    step, snapshot = a_request(4)
    events = list(step.events)
    for body in bodies:
        step, snapshot = then(snapshot, body)
        # What this release does not understand counts, and changes nothing else.
        newer = {"v": 9} if data.draw(st.booleans()) else {}
        events += [event.model_copy(update=newer) for event in step.events]
    entries = [Entry(0, Position(1, place), _fields(event)) for place, event in enumerate(events, start=1)]
    fold = Fold({})
    for entry in entries:
        fold.take(head_of(entry)[0])
    (outline,) = fold.orders.values()
    (order,) = folded(entries).values()
    said = (outline.version, outline.status, outline.updated_at, outline.amount_out)
    assert said == (order.version, order.status, order.updated_at, order.amount_out)
    named = fold_latest([decode(entries[version - 1]) for version in outline.named()])
    assert named.model_copy(update={"version": order.version, "updated_at": order.updated_at}) == order


def _fields(event: Envelope) -> dict[str, str]:
    return {**event.fields(), "v": str(event.v)}


def test_the_cache_is_bounded_and_lets_ended_orders_go() -> None:
    one, two, three = (str(number) for number in range(3))
    cache = Folded(size=2)
    cache.keep({one: Outline(1, "PENDING", NOW), two: Outline(1, "PENDING", NOW)})
    cache.keep({one: Outline(2, "ROUTING", NOW)})
    cache.keep({three: Outline(1, "PENDING", NOW)})
    assert set(cache.known([one, two, three])) == {one, three}
    cache.keep({one: Outline(3, "CONFIRMED", NOW)})
    assert set(cache.known([one, three])) == {three}


@pytest.mark.parametrize("value", ["\x01", "\x02", "two\nlines", "\r", "a\tb", "\\", "\\N", "é\u2028"])
def test_a_text_holds_what_was_put_in_or_says_it_cannot(value: str) -> None:
    text = text_of([line_of(("a", value, None)), line_of(("b", "", [1, 2]))], 3, nulls=1)
    if text is not None:
        first, second, end = text.decode().split("\n")
        assert first.split(DELIMITER) == ["a", value.replace("\\", "\\\\"), NULL]
        assert (second.split(DELIMITER), end) == (["b", "", "{1,2}"], "")
    assert (text is None) == (not {*value}.isdisjoint("\x01\x02\r\n"))
