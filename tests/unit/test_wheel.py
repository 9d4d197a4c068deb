"""One timer for all: everybody is looked at when he asked for, once, wherever he waited before."""

import asyncio

from services.notifier.wheel import TICK_S, Wheel


class Watched:
    """Notes when it was looked at; asks to be looked at again `again_s` later."""

    def __init__(self, *again_s: float) -> None:
        self.wake_tick = 0
        self.looks: list[float] = []
        self.again_s = list(again_s)
        self.looked = asyncio.Event()

    def look(self, now: float) -> float | None:
        self.looks.append(now)
        self.looked.set()
        return now + self.again_s.pop(0) if self.again_s else None


async def test_everybody_is_looked_at_and_never_early() -> None:
    wheel, now = Wheel(), asyncio.get_running_loop().time()
    asked = [now + wait_s for wait_s in (0.3, 0.01, 0.01, 0.6)]
    watched = [Watched() for _ in asked]
    for when, one in zip(asked, watched, strict=True):
        wheel.look_at(when, one)
    await asyncio.gather(*(one.looked.wait() for one in watched))
    assert all(one.looks[0] >= when for when, one in zip(asked, watched, strict=True))


async def test_who_asks_again_is_looked_at_again() -> None:
    wheel, one = Wheel(), Watched(TICK_S, TICK_S)
    wheel.look_at(asyncio.get_running_loop().time(), one)
    while len(one.looks) < 3:
        one.looked.clear()
        await one.looked.wait()
    assert one.looks[1] >= one.looks[0] + TICK_S
    assert one.looks[2] >= one.looks[1] + TICK_S


async def test_who_moved_is_looked_at_once() -> None:
    wheel, one, last, now = Wheel(), Watched(), Watched(), asyncio.get_running_loop().time()
    wheel.look_at(now + 0.5, one)
    wheel.look_at(now + 0.01, one)
    wheel.look_at(now + 1, last)
    await last.looked.wait()
    assert len(one.looks) == 1
    assert one.looks[0] < now + 0.5


async def test_who_moved_away_and_back_is_looked_at_once() -> None:
    wheel, one, last, now = Wheel(), Watched(), Watched(), asyncio.get_running_loop().time()
    for when in (now + 0.3, now + 0.6, now + 0.3):
        wheel.look_at(when, one)
    wheel.look_at(now + 1, last)
    await last.looked.wait()
    assert len(one.looks) == 1
