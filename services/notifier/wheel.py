"""When each connection is to be looked at again: one timer for all of them."""

import asyncio
import math
from typing import Protocol

TICK_S = 0.25


class Turning(Protocol):
    """What the wheel looks after."""

    wake_tick: int
    """The tick it waits for; the wheel's own."""

    def look(self, now: float) -> float | None:
        """Do what is due; gives when to look again, or None: never."""
        ...


class Wheel:
    """Everybody is in at most one place; to be looked at sooner means to move."""

    def __init__(self) -> None:
        self._due: dict[int, set[Turning]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_tick = 0

    def look_at(self, when: float, one: Turning) -> None:
        """Look at `one` at this time of the loop's clock, or a tick later, and not before."""
        tick = math.ceil(when / TICK_S)
        if tick == one.wake_tick:
            return
        self.forget(one)
        one.wake_tick = tick
        self._due.setdefault(tick, set()).add(one)
        if self._timer is None or tick < self._timer_tick:
            self._set_timer(tick)

    def forget(self, one: Turning) -> None:
        """Do not look at it any more, nor keep it: what has ended may have asked for a time hours ahead."""
        if waiting := self._due.get(one.wake_tick):
            waiting.discard(one)
        one.wake_tick = 0

    def _set_timer(self, tick: int) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer_tick = tick
        self._timer = asyncio.get_running_loop().call_at(tick * TICK_S, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        reached = math.floor(now / TICK_S)
        for tick in sorted(tick for tick in self._due if tick <= reached):
            for one in self._due.pop(tick):
                if one.wake_tick == tick:
                    one.wake_tick = 0
                    when = one.look(now)
                    if when is not None:
                        self.look_at(when, one)
        if self._due and self._timer is None:
            self._set_timer(min(self._due))
