"""The notifier's pure parts: frames, and what a socket is told while and after its snapshot is read."""

import asyncio
from typing import Any, cast

import pytest
from aiohttp import web

from services.notifier.access import Access
from services.notifier.limits import Close, Limits
from services.notifier.subscriber import Subscriber, Told
from services.notifier.wire import WebSocketWire, text_frame


class Wire:
    """A transport that keeps what is written; `unsent` is what it says it could not send yet."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unsent = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data[2:])  # without the head of a short frame

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True


class Socket:
    """Keeps the code it was closed with."""

    closed = False
    code: int | None = None

    async def close(self, *, code: int, message: bytes) -> bool:
        self.code = code
        return True


def subscriber(wire: Wire, ws: Socket, **limits: Any) -> Subscriber:
    transport, response = cast("asyncio.Transport", wire), cast("web.WebSocketResponse", ws)
    return Subscriber("alice", None, WebSocketWire(response, transport), Limits(close_grace_s=0, **limits))


def message(version: int, order_id: str = "order-1") -> Told:
    told = Told({}, "", order_id, version, position=version)
    told.payload = f"{order_id}/{version}".encode()
    return told


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_frames_have_the_three_lengths_of_the_standard(length: int, header: bytes) -> None:
    assert text_frame(b"x" * length) == header + b"x" * length


def test_what_is_held_comes_after_the_snapshot_without_what_it_has() -> None:
    wire = Wire()
    one = subscriber(wire, Socket())
    for version in (2, 3, 4):
        assert one.deliver(message(version))
    assert wire.written == []

    assert one.release({"order-1": 3})
    assert one.deliver(message(5))
    assert wire.written == [b"order-1/4", b"order-1/5"]


def test_a_version_after_a_missing_one_is_not_told() -> None:
    wire = Wire()
    one = subscriber(wire, Socket())
    assert one.release({"order-1": 3})
    assert not one.deliver(message(5))
    assert wire.written == []


def test_orders_the_snapshot_does_not_have_pass() -> None:
    wire = Wire()
    one = subscriber(wire, Socket())
    one.release({"order-1": 3})
    assert one.deliver(message(17, "an older order"))
    assert wire.written == [b"an older order/17"]


def test_a_settled_socket_compares_no_more() -> None:
    wire = Wire()
    one = subscriber(wire, Socket())
    one.release({"order-1": 3})
    one.settle()
    assert one.deliver(message(4))
    assert wire.written == [b"order-1/4"]


async def test_a_socket_that_does_not_take_what_it_is_sent_is_closed_and_then_cut_off() -> None:
    wire, ws = Wire(), Socket()
    one = subscriber(wire, ws, unsent_bytes_max=10)
    one.release({})
    wire.unsent = 11
    one.deliver(message(1))
    one.deliver(message(2))
    assert one.closing
    await one.closing
    await asyncio.sleep(0)

    assert ws.code == Close.SLOW.code
    assert wire.written == [b"order-1/1"]
    assert wire.aborted


@pytest.mark.parametrize("limits", [{"held_events_max": 2}, {"unsent_bytes_max": 20}], ids=["by count", "by bytes"])
async def test_what_is_held_is_bounded(limits: dict[str, int]) -> None:
    ws = Socket()
    one = subscriber(Wire(), ws, **limits)
    for version in range(1, 4):
        one.deliver(message(version))
    assert one.closing
    await one.closing
    assert ws.code == Close.SLOW.code


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
