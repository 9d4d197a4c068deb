"""An entry reads the same, whether Redis' reply was decoded on the way or left as bytes."""

import pytest

from libs.events.ids import Position
from libs.events.redis_entries import entry_of

NAMES = ("id", "type", "subject", "user", "data")


@pytest.mark.parametrize(
    "data",
    [
        b'{"amount":"5"}',
        "\u00e9 \u20ac \U0001f980".encode(),
        b"",
        b"a\0b",  # by another hand: our JSON escapes it
        b"\0",
        b"cut \xe2\x82",  # no UTF-8: what follows must not be taken for the rest of it
    ],
)
def test_raw_and_decoded_entries_are_the_same(data: bytes) -> None:
    values = (b"018f/1", b"OrderRequested", b"018f", b"u1", data)
    raw = [part for name, value in zip(NAMES, values, strict=True) for part in (name.encode(), value)]
    decoded = [part.decode(errors="replace") for part in raw]
    assert entry_of(2, (b"1700-4", raw)) == entry_of(2, ("1700-4", decoded))
    assert entry_of(2, (b"1700-4", raw)).at == Position(1700, 4)
    assert entry_of(2, (b"1700-4", [*raw, b"more", b"\xff"])).fields["data"] == data.decode(errors="replace")
