"""The end of a frame is seen in whatever pieces the bytes come."""

import random

import pytest

from services.gateway.frames import FrameEdge, restarting
from services.notifier.frames import text_frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536])
def test_a_frame_ends_with_its_last_byte(size: int) -> None:
    frame = text_frame(b"x" * size)
    for cut in {0, 1, 2, 3, 4, 9, 10, len(frame) - 1} - {len(frame)}:
        if cut > len(frame):
            continue
        edge = FrameEdge()
        edge.feed(frame[:cut])
        assert edge.reached == (cut == 0)
        edge.feed(frame[cut:])
        assert edge.reached


def test_many_frames_in_pieces() -> None:
    chance = random.Random(3)
    sizes = [chance.choice([0, 5, 125, 126, 300, 70_000]) for _ in range(50)]
    frames = [text_frame(b"y" * size) for size in sizes]
    stream, ends, edge, fed = b"".join(frames), set(), FrameEdge(), 0
    for frame in frames:
        fed += len(frame)
        ends.add(fed)
    at = 0
    while at < len(stream):
        step = chance.choice([1, 2, 3, 1_000, 50_000])
        edge.feed(stream[at : at + step])
        at = min(at + step, len(stream))
        assert edge.reached == (at in ends)


def test_the_farewell_is_a_close_frame() -> None:
    frame = restarting()
    assert frame[0] == 0x88
    assert frame[1] == len(frame) - 2 <= 125
    assert int.from_bytes(frame[2:4], "big") == 4001
