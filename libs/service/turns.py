"""Turns at what takes long: so many at once, of one user but a few, or fifty of his would keep all others waiting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary


class TurnTooFar(Exception):
    """What the same user asked for before was not done in time."""


class NoTurnFree(Exception):
    """What others asked for before was not done in time."""


class Turns:
    """First come, first served: each user, and what one user asks for."""

    def __init__(self, at_once: int, of_one_user: int) -> None:
        self._room, self._of_one_user = asyncio.Semaphore(at_once), of_one_user
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(
        self, user: str, within_s: float | None = None, room_within_s: float | None = None
    ) -> AsyncIterator[None]:
        """The block is one turn of `user`. `within_s`, `room_within_s`: the longest wait for his own others, for all.

        Raises:
            TurnTooFar, NoTurnFree
        """
        own = self._of.setdefault(user, asyncio.Semaphore(self._of_one_user))
        async with AsyncExitStack() as held:
            await _take(own, held, within_s, TurnTooFar)
            await _take(self._room, held, room_within_s, NoTurnFree)
            yield


async def _take(
    room: asyncio.Semaphore, held: AsyncExitStack, within_s: float | None, too_late: type[Exception]
) -> None:
    try:
        async with asyncio.timeout(within_s):
            await held.enter_async_context(room)
    except TimeoutError:
        raise too_late from None
