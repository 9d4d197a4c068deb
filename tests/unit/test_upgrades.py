"""What earlier releases wrote is read by this one, and what this one writes by them."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import orjson
import pytest

from libs.events import model, upcast as upcasting
from libs.events.envelope import Envelope
from libs.events.ids import Position, partition_of
from libs.events.log import Entry
from libs.events.model import EVENT_TYPES, Event, TxConfirmed, UnknownEvent
from libs.events.order import Order, evolve
from libs.events.schema_files import schemas
from libs.events.upcast import UPCASTS, upcast
from libs.orders.rows import entry_of
from tests.archive_rows import archive_row
from tests.golden.record import FOLDER
from tests.golden.schemas import incompatibilities

RELEASES = sorted(path.name for path in FOLDER.iterdir() if (path / "events.jsonl").exists())


def lines(release: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (FOLDER / release / "events.jsonl").read_bytes().splitlines()]


def test_this_release_is_recorded() -> None:
    assert version("swaplog") in RELEASES, "run: python -m tests.golden.record"


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_recorded_every_event_it_had(release: str) -> None:
    had = {path.name.split(".")[0] for path in (FOLDER / release / "schemas").iterdir()} - {"Envelope"}
    assert {line["fields"]["type"] for line in lines(release)} == had


@pytest.mark.parametrize("release", RELEASES)
def test_its_entries_fold_to_what_it_said(release: str) -> None:
    orders: dict[str, Order] = {}
    for line in lines(release):
        event = Envelope.from_fields(line["fields"])
        assert not isinstance(event.data, UnknownEvent)
        orders[event.subject] = order = evolve(orders.get(event.subject), event)
        now = order.model_dump(mode="json")
        assert {name: now[name] for name in line["state"]} == line["state"]
        assert Order.model_validate_json(orjson.dumps(line["state"])) == order, "a state it stored can be read"


@pytest.mark.parametrize("release", RELEASES)
def test_its_entries_pass_through_the_archive_to_the_byte(release: str) -> None:
    for number, line in enumerate(lines(release), start=1):
        entry = Entry(partition_of(line["fields"]["subject"]), Position(1, number), line["fields"])
        assert entry_of(archive_row(entry)) == entry


@pytest.mark.parametrize("release", RELEASES)
def test_readers_of_a_release_understand_what_is_written_now(release: str) -> None:
    """The same version of a schema only gains optional fields; anything else is a version of its own."""
    for name, content in schemas().items():
        then = FOLDER / release / "schemas" / name
        if then.exists():
            assert list(incompatibilities(orjson.loads(then.read_bytes()), orjson.loads(content))) == [], name


def test_every_version_ever_written_has_a_way_to_the_present_one() -> None:
    assert set(UPCASTS) == {(name, v) for name, kind in EVENT_TYPES.items() for v in range(1, kind.SCHEMA_VERSION)}


@pytest.fixture
def third_version(monkeypatch: pytest.MonkeyPatch) -> type[Event]:
    """A TxConfirmed that was changed twice: slots as strings, then the slot under another name."""
    fields: dict[str, Any] = {"__annotations__": {"landed_in": str}, "SCHEMA_VERSION": 3}
    newer: type[Event] = type("TxConfirmed", (TxConfirmed,), fields)
    monkeypatch.setitem(model.EVENT_TYPES, "TxConfirmed", newer)
    monkeypatch.setitem(upcasting.UPCASTS, ("TxConfirmed", 1), lambda body: {**body, "slot_text": str(body["slot"])})
    monkeypatch.setitem(upcasting.UPCASTS, ("TxConfirmed", 2), lambda body: {**body, "landed_in": body["slot_text"]})
    return newer


def confirmed() -> dict[str, str]:
    (fields,) = [line["fields"] for line in lines(RELEASES[0]) if line["fields"]["type"] == "TxConfirmed"]
    return dict(fields)


def test_an_older_version_is_read_as_the_present_one_step_by_step(third_version: type[Event]) -> None:
    event = Envelope.from_fields(confirmed())
    assert isinstance(event.data, third_version)
    assert event.data.landed_in == "7"  # type: ignore[attr-defined]
    assert event.v == 1, "that is how it is stored"
    assert event.fields()["v"] == "3", "that is how it would be written now"


def test_the_archive_keeps_what_was_written_not_what_was_read(third_version: type[Event]) -> None:
    entry = Entry(0, Position(1, 1), confirmed())
    row = archive_row(entry)
    assert (row["v"], row["data"]) == (1, entry.fields["data"])
    assert entry_of(row) == entry


def test_a_missing_step_is_said() -> None:
    with pytest.raises(ValueError, match="nothing makes TxConfirmed v1 a v2"):
        upcast("TxConfirmed", 1, 2, "{}", {})


def _changed(**changes: Any) -> dict[str, Any]:
    before = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer", "minimum": 0}, "e": {"enum": ["x", "y"]}},
        "required": ["a"],
    }
    return {**before, **changes}


def _breaking() -> Iterator[tuple[str, dict[str, Any]]]:
    properties = _changed()["properties"]
    yield "a field gone", _changed(properties={"a": properties["a"]})
    yield "another type", _changed(properties={**properties, "a": {"type": "integer"}})
    yield "a field must be there now", _changed(required=["a", "b"])
    yield "a field may be missing now", _changed(required=[])
    yield "a new value for a closed set", _changed(properties={**properties, "e": {"enum": ["x", "y", "z"]}})


@pytest.mark.parametrize(("why", "after"), list(_breaking()), ids=lambda item: item if isinstance(item, str) else "")
def test_a_change_that_breaks_readers_is_seen(why: str, after: dict[str, Any]) -> None:
    assert list(incompatibilities(_changed(), after)), why


def test_an_optional_field_breaks_nobody() -> None:
    after = _changed(properties={**_changed()["properties"], "new": {"type": "string"}})
    assert list(incompatibilities(_changed(), after)) == []
