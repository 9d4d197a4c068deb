"""Entries become rows and come back to the byte; the fold cache is bounded."""

import pytest

from libs.events.errors import VersionGap
from libs.events.ids import Position
from libs.events.log import Entry
from libs.orders.folding import Folded, fold
from libs.orders.rows import Undecodable, decode, entry_of
from tests.archive_rows import archive_row
from tests.builders import a_request, routing_started, then, tx_confirmed


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


def test_the_fold_takes_each_version_once_and_in_order() -> None:
    first, before = a_request(4)
    second, before = then(before, routing_started())
    third, _ = then(before, routing_started(2))
    assert fold({}, first.events + second.events)[before.order.id] == before.order
    known = {before.order.id: before.order}
    assert fold(known, third.events)[before.order.id].version == 3
    with pytest.raises(VersionGap):
        fold(known, second.events)
    with pytest.raises(VersionGap):
        fold({}, third.events)


def test_the_cache_is_bounded_and_lets_ended_orders_go() -> None:
    snapshots = [a_request(4)[1] for _ in range(3)]
    one, two, three = (snapshot.order for snapshot in snapshots)
    cache = Folded(size=2)
    cache.keep({one.id: one, two.id: two})
    cache.keep({one.id: one})
    cache.keep({three.id: three})
    assert set(cache.known([one.id, two.id, three.id])) == {one.id, three.id}
    _, ended = then(snapshots[0], tx_confirmed())
    cache.keep({one.id: ended.order})
    assert set(cache.known([one.id, three.id])) == {three.id}
