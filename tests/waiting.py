"""Waiting on a state, never for a time."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, overload

T = TypeVar("T")

POLL_S = 0.02


@overload
async def eventually(
    condition: Callable[[], Awaitable[T | None]], *, what: str = "", within_s: float = 120, poll_s: float = POLL_S
) -> T: ...
@overload
async def eventually(
    condition: Callable[[], T | None], *, what: str = "", within_s: float = 120, poll_s: float = POLL_S
) -> T: ...
async def eventually(
    condition: Callable[[], T | Awaitable[T | None] | None],
    *,
    what: str = "",
    within_s: float = 120,
    poll_s: float = POLL_S,
) -> T:
    """Call `condition` until it gives something true, and return that.

    An AssertionError from `condition` counts as "not yet", so a block of plain asserts may be waited on; return True.

    Raises:
        AssertionError: it was not true within `within_s` seconds; the text names `what` and the last value.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        seen: object
        try:
            given = condition()
            value = await given if inspect.isawaitable(given) else given
            if value:
                return value
            seen = value
        except AssertionError as error:
            seen = error
        if loop.time() > deadline:
            name = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"not within {within_s:g} s: {name}; last seen: {seen!r}")
        await asyncio.sleep(poll_s)


async def ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel them, again where one goes on: before Python 3.12 `asyncio.wait_for`, and so redis-py, may swallow it."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1)
