"""What is done from time to time is done again, whatever went wrong the last time."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import pytest

from libs.events.errors import LogUnavailable
from libs.events.in_hand import InHand
from libs.events.keeper import Keeper
from libs.events.reactions import ROUTER
from libs.events.work import Item, Work
from libs.events.worker_limits import WorkerLimits
from tests.waiting import eventually

SOON = WorkerLimits(renew_every_s=0.001, claim_every_s=0.001, timers_every_s=0.001)


class Troubled:
    """A log each of whose calls fails at first."""

    def __init__(self, error: Exception) -> None:
        self.calls: Counter[str] = Counter()
        self._error = error

    def _call(self, name: str) -> None:
        self.calls[name] += 1
        if self.calls[name] == 1:
            raise self._error

    async def renew(self, _items: Sequence[Item]) -> None:
        self._call("renew")

    async def claim(self, *_: Any) -> list[Item]:
        self._call("claim")
        return []

    async def move_due(self) -> None:
        self._call("move_due")


@pytest.mark.parametrize("error", [LogUnavailable("away"), ValueError("an item nobody can read")])
async def test_a_duty_that_failed_has_its_next_time(error: Exception) -> None:
    log = Troubled(error)
    keeper = Keeper(cast("Work", log), ROUTER, "one", SOON, in_hand=InHand(1), begin=lambda _: None)
    keeping = asyncio.create_task(keeper.run())

    async def all_again() -> bool:
        return all(log.calls[name] >= 3 for name in ("renew", "claim", "move_due"))

    try:
        await eventually(all_again, what="every duty done again")
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
