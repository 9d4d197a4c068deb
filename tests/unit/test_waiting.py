"""A wait that fails must say what it waited for and what it saw last."""

import asyncio
from contextlib import suppress

import pytest

from tests.waiting import ended, eventually


async def test_gives_the_first_true_value() -> None:
    values = iter([0, None, 7])
    assert await eventually(lambda: next(values), what="a number") == 7


async def test_waits_on_asserts_and_on_coroutines() -> None:
    seen: list[int] = []

    async def grown() -> bool:
        seen.append(1)
        assert len(seen) > 2
        return True

    assert await eventually(grown)


async def test_failure_names_what_and_the_last_value() -> None:
    with pytest.raises(AssertionError, match=r"not within 0 s: three orders; last seen: \[\]"):
        await eventually(list, what="three orders", within_s=0)


async def test_a_task_that_swallows_its_cancellation_is_ended_all_the_same() -> None:
    async def stubborn() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3_600)
        await asyncio.sleep(3_600)

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(asyncio.sleep(0))]
    await asyncio.sleep(0.01)  # both have begun
    await ended(tasks)
    assert tasks[0].cancelled()
