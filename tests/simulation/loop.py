"""An event loop in which time is a number and the next thing to run is drawn by a seed.

Nothing waits: when nothing can run, the clock jumps to the next timer. Ready callbacks run in a drawn order, so a seed
is one interleaving of everything.
"""

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class NothingLeftToRun(Exception):
    """Everybody waits for somebody else."""


class _Selector(selectors.SelectSelector):
    """Never waits for a file: lets time pass instead."""

    advance: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise NothingLeftToRun
        self.advance(timeout)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """`time()` is virtual and starts at 0."""

    def __init__(self, chance: random.Random) -> None:
        self._now = 0.0
        self._chance = chance
        selector = _Selector()
        selector.advance = self._advance
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def _advance(self, seconds: float) -> None:
        self._now += max(0.0, seconds)

    def _run_once(self) -> None:
        self._chance.shuffle(self._ready)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def simulate(main: Callable[[], Coroutine[Any, Any, T]], seed: int) -> T:
    """Run to the end under the schedule of this seed; the module `random` is seeded too, for whoever uses it."""
    chance = random.Random(seed)
    random.seed(seed)
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(chance)) as runner:
        return runner.run(main())
