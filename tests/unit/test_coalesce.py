"""Alone an item leaves at once; together they leave in one call; nobody suffers for another's fate."""

import asyncio
from collections.abc import Sequence

import pytest

from libs.service.coalesce import Coalescer, each
from tests.waiting import eventually


class Calls:
    """Records each batch; a gate holds calls back until it is opened."""

    def __init__(self, *, gated: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.at_once = self.at_once_max = 0
        self.gate = asyncio.Event()
        if not gated:
            self.gate.set()

    async def __call__(self, items: list[int]) -> Sequence[int | Exception]:
        self.batches.append(items)
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            await self.gate.wait()
        finally:
            self.at_once -= 1
        return [ValueError(f"{item} is negative") if item < 0 else item * 2 for item in items]


async def submitted(coalescer: Coalescer[int, int], items: Sequence[int]) -> list[asyncio.Task[int]]:
    """Tasks that all wait for their results."""
    tasks = [asyncio.create_task(coalescer.submit(item)) for item in items]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_an_item_alone_leaves_at_once_and_alone() -> None:
    calls = Calls()
    coalescer: Coalescer[int, int] = Coalescer(calls, 10)
    assert [await coalescer.submit(1), await coalescer.submit(2)] == [2, 4]
    assert calls.batches == [[1], [2]]


async def test_items_that_arrive_during_a_call_leave_together_in_order_and_bounded() -> None:
    calls = Calls(gated=True)
    coalescer: Coalescer[int, int] = Coalescer(calls, 4)
    tasks = await submitted(coalescer, range(10))
    assert calls.batches == [[0]]
    calls.gate.set()
    assert await asyncio.gather(*tasks) == [item * 2 for item in range(10)]
    assert calls.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]
    assert calls.at_once_max == 1


async def test_as_many_calls_as_allowed_are_in_flight() -> None:
    calls = Calls(gated=True)
    coalescer: Coalescer[int, int] = Coalescer(calls, 2, in_flight_max=3)
    tasks = await submitted(coalescer, range(9))
    calls.gate.set()
    await asyncio.gather(*tasks)
    assert calls.at_once_max == 3


async def test_an_error_of_one_item_is_raised_to_its_own_caller_only() -> None:
    calls = Calls(gated=True)
    coalescer: Coalescer[int, int] = Coalescer(calls, 10)
    tasks = await submitted(coalescer, [0, 1, -1, 2])
    calls.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[:2] == [0, 2]
    assert isinstance(results[2], ValueError)
    assert results[3] == 4


async def test_a_failed_call_fails_its_batch_and_the_next_goes_on() -> None:
    async def call(items: list[int]) -> Sequence[int | Exception]:
        await asyncio.sleep(0)
        if 1 in items:
            raise OSError("away")
        return items

    coalescer: Coalescer[int, int] = Coalescer(call, 2)
    results = await asyncio.gather(*(coalescer.submit(item) for item in range(5)), return_exceptions=True)
    assert results[0] == 0
    assert isinstance(results[1], OSError)
    assert isinstance(results[2], OSError)
    assert results[3:] == [3, 4]


async def test_a_call_with_too_few_results_is_an_error_not_a_hang() -> None:
    async def call(items: list[int]) -> Sequence[int | Exception]:
        return []

    with pytest.raises(RuntimeError, match="1 items gave 0 results"):
        await Coalescer[int, int](call, 2).submit(1)


async def test_a_cancelled_caller_disturbs_nobody_whether_it_waits_or_is_in_flight() -> None:
    calls = Calls(gated=True)
    coalescer: Coalescer[int, int] = Coalescer(calls, 10)
    tasks = await submitted(coalescer, range(5))
    tasks[0].cancel()  # in flight
    tasks[2].cancel()  # still waiting
    await asyncio.sleep(0)
    calls.gate.set()
    assert [await tasks[1], await tasks[3], await tasks[4]] == [2, 6, 8]
    assert calls.batches == [[0], [1, 3, 4]]
    assert tasks[0].cancelled()
    assert tasks[2].cancelled()


async def test_a_caller_cancelled_in_a_shared_call_in_flight_leaves_the_others_their_results() -> None:
    calls = Calls(gated=True)
    coalescer: Coalescer[int, int] = Coalescer(calls, 10)
    tasks = await submitted(coalescer, range(4))
    calls.gate.set()
    await tasks[0]
    calls.gate.clear()
    await eventually(lambda: len(calls.batches) == 2, poll_s=0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    calls.gate.set()
    assert [await tasks[2], await tasks[3]] == [4, 6]
    assert calls.batches == [[0], [1, 2, 3]]


async def test_closing_cancels_what_is_in_flight_and_what_waits() -> None:
    calls = Calls(gated=True)
    coalescer: Coalescer[int, int] = Coalescer(calls, 1)
    tasks = await submitted(coalescer, range(3))
    await coalescer.aclose()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert calls.batches == [[0]]


async def test_each_gives_results_and_errors_in_order() -> None:
    async def halved(number: int) -> int:
        if number % 2:
            raise ValueError(number)
        return number // 2

    first, second = await each(halved(number) for number in (4, 3))
    assert first == 2
    assert isinstance(second, ValueError)


async def test_items_that_weigh_more_share_smaller_calls_and_the_heaviest_has_its_own() -> None:
    calls: list[list[str]] = []

    async def call(items: list[str]) -> list[int]:
        calls.append(items)
        return [len(item) for item in items]

    coalescer = Coalescer(call, batch_max=5, weight=len)
    items = ["a", "bb", "cc", "dddddddd", "e"]
    assert await coalescer.gather(items, 10) == [1, 2, 2, 8, 1]
    assert calls == [["a", "bb", "cc"], ["dddddddd"], ["e"]]
    assert await coalescer.gather(["dddd", "ee"], 10) == [4, 2]
    assert calls[3:] == [["dddd"], ["ee"]]


async def test_who_waits_behind_many_that_gave_up_is_not_forgotten() -> None:
    calls = Calls(gated=True)
    coalescer: Coalescer[int, int] = Coalescer(calls, 2)
    first, *gave_up = [coalescer.enqueue(item) for item in range(6)]
    for result in gave_up:
        result.cancel()
    last = coalescer.enqueue(7)
    calls.gate.set()
    assert [await first, await last] == [0, 14]
    assert calls.batches == [[0], [7]]


async def test_each_gives_the_error_of_a_lone_call_as_its_result() -> None:
    async def refused() -> int:
        raise ValueError("no")

    (only,) = await each([refused()])
    assert isinstance(only, ValueError)


async def test_gathered_items_share_a_call_and_keep_their_errors_to_themselves() -> None:
    calls = Calls()
    first, second, third = await Coalescer[int, int](calls, 10).gather([1, -2, 3], 5)
    assert (first, third) == (2, 6)
    assert isinstance(second, ValueError)
    assert calls.batches == [[1, -2, 3]]


async def test_what_is_not_there_in_time_is_a_timeout_of_its_own() -> None:
    async def call(items: list[int]) -> Sequence[int | Exception]:
        await asyncio.sleep(30 if 2 in items else 0)
        return items

    coalescer: Coalescer[int, int] = Coalescer(call, 1, in_flight_max=3)
    first, second, third = await coalescer.gather([1, 2, 3], 0.05)
    assert (first, third) == (1, 3)
    assert isinstance(second, TimeoutError)
    await coalescer.aclose()


async def test_who_gathers_and_is_cancelled_leaves_nothing_to_be_asked() -> None:
    calls = Calls(gated=True)
    coalescer: Coalescer[int, int] = Coalescer(calls, 1)
    gathering = asyncio.create_task(coalescer.gather([1, 2, 3], 30))
    await eventually(lambda: calls.batches == [[1]], poll_s=0)
    gathering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gathering
    calls.gate.set()
    assert await coalescer.submit(4) == 8
    assert calls.batches == [[1], [4]]


async def test_closing_ends_what_was_gathered_as_if_it_were_too_late() -> None:
    calls = Calls(gated=True)
    coalescer: Coalescer[int, int] = Coalescer(calls, 1)
    gathering = asyncio.create_task(coalescer.gather([1, 2], 30))
    await eventually(lambda: calls.batches == [[1]], poll_s=0)
    await coalescer.aclose()
    assert [type(result) for result in await gathering] == [TimeoutError, TimeoutError]
