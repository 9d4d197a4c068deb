"""The notifier's pure parts: what a socket is told while and after its snapshot is read."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from libs.events.ids import Cursor, Position
from libs.events.memory_log import MemoryLog
from services.notifier.access import Access
from services.notifier.limits import Close, Limits
from services.notifier.listeners import Listeners
from services.notifier.reached import Reached
from services.notifier.subscriber import Subscriber, Told
from services.notifier.wire import Message


class Wire:
    """Keeps what is sent, and the code it was closed with; `unsent` is what it says the client has not taken yet."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unsent = 0
        self.code: int | None = None

    @property
    def closed(self) -> bool:
        return self.code is not None

    async def begin(self) -> None:
        """It has begun already."""

    def send(self, messages: Sequence[Message]) -> int:
        self.written += [message.payload for message in messages]
        return self.unsent

    def close(self, close: Close, reason: str) -> None:
        assert reason
        self.code = close.code


def subscriber(wire: Wire, **limits: Any) -> Subscriber:
    return Subscriber("alice", None, wire, Limits(**limits))


def message(version: int, order_id: str = "order-1") -> Told:
    told = Told({}, "", order_id, version, position=version)
    told.payload = f"{order_id}/{version}".encode()
    return told


def test_what_is_held_comes_after_the_snapshot_without_what_it_has() -> None:
    wire = Wire()
    one = subscriber(wire)
    for version in (2, 3, 4):
        assert one.deliver(message(version))
    one.flush()
    assert wire.written == []

    assert one.release({"order-1": 3})
    assert one.deliver(message(5))
    one.flush()
    assert wire.written == [b"order-1/4", b"order-1/5"]


def test_a_version_after_a_missing_one_is_not_told() -> None:
    wire = Wire()
    one = subscriber(wire)
    assert one.release({"order-1": 3})
    assert not one.deliver(message(5))
    one.flush()
    assert wire.written == []


def test_orders_the_snapshot_does_not_have_pass() -> None:
    wire = Wire()
    one = subscriber(wire)
    one.release({"order-1": 3})
    assert one.deliver(message(17, "an older order"))
    one.flush()
    assert wire.written == [b"an older order/17"]


def test_what_the_history_had_is_not_told_again_by_a_tail_that_is_behind_it() -> None:
    wire = Wire()
    one = subscriber(wire)
    for version in (2, 3, 4):
        one.deliver(message(version))
    one.release_after(5)
    for version in (5, 6):
        one.deliver(message(version))
    one.flush()
    assert wire.written == [b"order-1/6"]


def test_what_is_held_comes_after_the_history_without_what_that_has() -> None:
    wire = Wire()
    one = subscriber(wire)
    for version in (2, 3, 4, 5):
        assert one.deliver(message(version))
    one.release_after(3)
    assert wire.written == [b"order-1/4", b"order-1/5"]


def test_what_is_held_while_the_log_is_read_past_the_snapshot_is_still_compared_with_it() -> None:
    wire = Wire()
    one = subscriber(wire)
    one.release({"order-1": 3})
    one.hold(forget=False)
    one.deliver(message(3))
    assert not one.settle()
    one.release({})
    assert wire.written == []


def test_a_settled_socket_compares_no_more() -> None:
    wire = Wire()
    one = subscriber(wire)
    one.release({"order-1": 3})
    one.settle()
    assert one.deliver(message(4))
    one.flush()
    assert wire.written == [b"order-1/4"]


def test_a_socket_that_does_not_take_what_it_is_sent_is_closed_and_told_no_more() -> None:
    wire = Wire()
    one = subscriber(wire, unsent_bytes_max=10)
    one.release({})
    wire.unsent = 11
    for version in (1, 2):
        one.deliver(message(version))
        one.flush()
    assert wire.code == Close.SLOW.code
    assert wire.written == [b"order-1/1"]


def test_what_was_delivered_goes_out_before_the_close() -> None:
    wire = Wire()
    one = subscriber(wire)
    one.release({})
    one.deliver(message(1))
    one.close(Close.RESTARTING)
    assert wire.written == [b"order-1/1"]
    assert wire.code == Close.RESTARTING.code


def test_what_is_sent_goes_out_behind_what_was_delivered() -> None:
    wire = Wire()
    one = subscriber(wire)
    one.release({})
    one.deliver(message(1))
    one.send(message(2))
    assert wire.written == [b"order-1/1", b"order-1/2"]


@pytest.mark.parametrize("limits", [{"held_events_max": 2}, {"unsent_bytes_max": 20}], ids=["by count", "by bytes"])
def test_what_is_held_is_bounded(limits: dict[str, int]) -> None:
    wire = Wire()
    one = subscriber(wire, **limits)
    for version in range(1, 4):
        one.deliver(message(version))
    assert wire.code == Close.SLOW.code


def test_what_is_held_for_who_has_left_meanwhile_is_bounded_too() -> None:
    """His turn to be read for may come late, or never while Postgres is silent, and only then is he forgotten."""
    wire = Wire()
    one = subscriber(wire, held_events_max=10)
    wire.code = 1006
    for version in range(100):
        one.deliver(message(version))
    assert len(one._held or ()) <= 10


async def test_a_heartbeat_does_not_go_back_behind_what_is_told_while_others_hear_theirs() -> None:
    limits, listeners = Limits(writes_at_once=1), Listeners()
    log = MemoryLog(partitions=1)
    reached, wires = Reached(log, listeners, limits), (Wire(), Wire())
    for wire in wires:
        one = Subscriber("alice", None, wire, limits)
        listeners.add(one, None)
        one.release({})
    reached.settle({0: Position(1, 1)})
    beating = asyncio.create_task(reached.beat())
    await asyncio.sleep(0)  # one of them has heard
    for one in listeners:
        one.send(Message({"cursor": str(Cursor(log.epoch, 0, Position(1, 2)))}, kind="order"))
    reached.settle({0: Position(1, 2)})
    await beating
    for wire in wires:
        places = [Cursor.parse(orjson.loads(payload)["cursor"]).at.position for payload in wire.written]
        assert places == sorted(places)
        assert len(places) == 2


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("01a205c4-6fe7-7367-94f4-2ccd80d6a003", True),
        ("01a205c4-6fe7-7367-94f4-2ccd80d6a004", False),
        ("01A205C4-6FE7-7367-94F4-2CCD80D6A003", False),
        ("01a205c4-6fe7-7367-94f4-2ccd80d6a0-3", False),
        ("", False),
        ("../../../../../../../../../../../etc", False),
    ],
)
def test_ids_this_log_cannot_have_made_are_known(text: str, possible: bool) -> None:
    nothing: Any = None
    assert Access(nothing, nothing, nothing, nothing, 4, Limits()).is_order_id(text) == possible
