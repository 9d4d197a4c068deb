"""What a WebSocket client sends is put together whole; what it must not send is refused with the standard's code."""

import random
from typing import Any

import pytest

from services.notifier.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    BadFrame,
    FrameReader,
    check_close,
    close_frame,
    text_frame,
)

CONTINUATION = 0


def sent(kind: int, payload: bytes, *, final: bool = True, flags: int = 0) -> bytes:
    """A masked frame, as clients send them."""
    mask, length = b"\x01\xfe\x80\x7f", len(payload)
    if length < 126:
        head = bytes((0x80 | length,))
    elif length < 1 << 16:
        head = b"\xfe" + length.to_bytes(2, "big")
    else:
        head = b"\xff" + length.to_bytes(8, "big")
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes(((0x80 if final else 0) | flags | kind,)) + head + mask + masked


def read(data: bytes, bytes_max: int = 1 << 20) -> list[tuple[int, bytes]]:
    return list(FrameReader(bytes_max).feed(data))


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
    payload = b"x" * length
    assert text_frame(payload) == header + payload
    assert read(sent(TEXT, payload)) == [(TEXT, payload)]


def test_messages_come_whole_in_whatever_pieces_the_bytes_come() -> None:
    chance = random.Random(5)
    texts = [b"a" * chance.choice([0, 1, 125, 126, 700, 66_000]) for _ in range(40)]
    parts = [
        [sent(TEXT, text[:3], final=False), sent(PING, b"?"), sent(CONTINUATION, text[3:])]
        if number % 3 == 0
        else [sent(TEXT, text)]
        for number, text in enumerate(texts)
    ]
    stream, reader, at = b"".join(b"".join(each) for each in parts), FrameReader(1 << 20), 0
    found: list[tuple[int, bytes]] = []
    while at < len(stream):
        step = chance.choice([1, 2, 3, 5, 1_000, 70_000])
        found += reader.feed(stream[at : at + step])
        at += step
    assert [payload for kind, payload in found if kind == TEXT] == texts
    assert [payload for kind, payload in found if kind == PING] == [b"?"] * len(range(0, 40, 3))


def test_bytes_need_not_be_text() -> None:
    assert read(sent(BINARY, b"\xff\x00")) == [(BINARY, b"\xff\x00")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x01x", 1002),
        (sent(TEXT, b"x", flags=0x40), 1002),
        (sent(3, b"x"), 1002),
        (sent(CONTINUATION, b"x"), 1002),
        (sent(TEXT, b"x", final=False) + sent(TEXT, b"y"), 1002),
        (sent(PING, b"x", final=False), 1002),
        (sent(PING, b"x" * 126), 1002),
        (sent(TEXT, b"\xff"), 1007),
        (sent(TEXT, b"\xc3", final=False) + sent(CONTINUATION, b"("), 1007),
        (sent(TEXT, b"x" * 101)[:2], 1009),
        (sent(TEXT, b"x" * 60, final=False) + sent(CONTINUATION, b"x" * 41), 1009),
        (b"\x81\xff" + b"\x7f" * 8, 1009),
    ],
    ids=[
        "not masked",
        "reserved bits",
        "unknown kind",
        "goes on with nothing",
        "begins within another",
        "a ping in parts",
        "a long ping",
        "not UTF-8",
        "not UTF-8 across parts",
        "too big by its head",
        "too big in parts",
        "a length of eight bytes",
    ],
)
def test_what_may_not_be_sent_has_its_code(data: bytes, code: int) -> None:
    with pytest.raises(BadFrame) as refused:
        read(data, bytes_max=100)
    assert refused.value.code == code


def test_characters_may_be_split_between_parts() -> None:
    whole = "é".encode()
    assert read(sent(TEXT, whole[:1], final=False) + sent(CONTINUATION, whole[1:])) == [(TEXT, whole)]


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x0f\xa1come back"])
def test_a_close_may_say_why(payload: bytes) -> None:
    check_close(payload)


@pytest.mark.parametrize(
    ("payload", "code"), [(b"\x03", 1002), (b"\x03\xed", 1002), (b"\x00\x00", 1002), (b"\x03\xe8\xff", 1007)]
)
def test_a_close_without_sense_is_refused(payload: bytes, code: int) -> None:
    with pytest.raises(BadFrame) as refused:
        check_close(payload)
    assert refused.value.code == code


def test_a_long_reason_is_cut() -> None:
    frame = close_frame(4001, "x" * 500)
    assert frame[:2] == bytes((0x80 | CLOSE, 125))
    assert len(frame) == 127


class Counted(bytes):
    """What was received, and how much of it was copied."""

    copied = 0

    def __radd__(self, before: bytes) -> bytes:
        return Counted(bytes(before) + bytes(self))

    def __getitem__(self, place: Any) -> Any:
        part = super().__getitem__(place)
        if isinstance(part, int):
            return part
        Counted.copied += len(part)
        return Counted(part)


def test_thousands_of_tiny_frames_at_once_cost_as_much_as_they_are_long() -> None:
    received = Counted(sent(PONG, b"") * 10_000)
    assert len(read(received)) == 10_000
    assert Counted.copied <= len(received)
