"""The wire format: what is written is what is read, for ever."""

import pytest
from pydantic import ValidationError

from libs.events.envelope import FIELD_NAMES, Envelope
from libs.events.ids import PARTITIONS_MAX, Cursor, Position, new_order_id, partition_of, partition_of_user
from libs.events.model import EVENT_TYPES, Event, Status, UnknownEvent
from libs.events.order import evolve
from libs.events.reactions import NEXT_ACTOR, TERMINAL, next_actor
from libs.events.redis_keys import TAGS
from libs.events.schema_files import FOLDER, schemas
from tests.builders import a_request, attempt_failed, route_selected, routing_started, then, tx_confirmed, tx_submitted


@pytest.mark.parametrize(
    "body", [routing_started(), route_selected(), tx_submitted(), tx_confirmed(), attempt_failed()], ids=type
)
def test_an_event_reads_back_as_it_was_written(body: Event) -> None:
    _, made = a_request(4)
    _, now = then(made, body)
    fields = now.event.fields()

    assert tuple(fields) == FIELD_NAMES
    assert Envelope.from_fields(fields) == now.event
    assert Envelope.from_fields(fields).fields() == fields


def test_amounts_beyond_doubles_survive_as_strings() -> None:
    _, made = a_request(4, amount_in=2**64 - 1)

    assert '"amount_in":"18446744073709551615"' in made.event.fields()["data"]
    assert evolve(None, Envelope.from_fields(made.event.fields())).amount_in == 2**64 - 1


def test_an_unknown_type_and_a_newer_schema_are_kept_word_for_word() -> None:
    _, made = a_request(4)
    for changes in ({"type": "OrderBlessed"}, {"v": "2"}):
        fields = {**made.event.fields(), **changes, "data": '{"new" : 1}'}
        event = Envelope.from_fields(fields)

        assert isinstance(event.data, UnknownEvent)
        assert event.fields() == fields
        assert next_actor(event.data) is None


@pytest.mark.parametrize("broken", [{"data": "{"}, {"version": "0"}, {"time": "yesterday"}, {"v": "x"}])
def test_fields_that_are_no_event_are_refused(broken: dict[str, str]) -> None:
    _, made = a_request(4)
    with pytest.raises((ValidationError, ValueError)):
        Envelope.from_fields({**made.event.fields(), **broken})


def test_the_committed_schemas_are_those_of_the_models() -> None:
    on_disk = {path.name: path.read_bytes() for path in FOLDER.glob("*.json")}

    assert on_disk == schemas(), "run: make docs"
    assert len(on_disk) == len(EVENT_TYPES) + 1


def test_every_event_type_has_a_next_actor_or_says_there_is_none() -> None:
    assert set(NEXT_ACTOR) == set(EVENT_TYPES.values())
    assert len(EVENT_TYPES) == 10
    assert {status for status in Status if status in TERMINAL} == {"CONFIRMED", "FAILED", "CANCELLED", "EXPIRED"}


def test_an_order_id_names_its_users_partition() -> None:
    for user in map(str, range(50)):
        partition = partition_of_user(user, 7)
        assert partition_of(new_order_id(partition)) == partition
    with pytest.raises(ValueError, match="at most 64"):
        partition_of("01890000-0000-7000-8000-000000000fff")


def test_cursors_read_back() -> None:
    cursor = Cursor("e1", 3, Position(1_700_000_000_000, 42))
    assert Cursor.parse(str(cursor)) == cursor
    assert str(cursor) == "e1:3:1700000000000-42"


def test_hash_tags_spread_over_a_cluster() -> None:
    """The first 4, 8, 16 … partitions fall evenly on as many equal slices of the slots."""
    from redis.crc import key_slot  # noqa: PLC0415 - the cluster's own function, needed here only

    slots = [key_slot(f"{{{tag}}}".encode()) for tag in TAGS]
    for count in (2, 4, 8, 16, 32, PARTITIONS_MAX):
        slices = {slot * count // 16_384 for slot in slots[:count]}
        assert len(slices) == count
