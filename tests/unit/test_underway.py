"""Reads that wait together: the first answer is everybody's, and no other is ever given up."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from libs.events import redis_underway
from libs.events.errors import LogUnavailable
from libs.events.redis_underway import Underway


class Parts:
    """Two reads that answer when they are told to."""

    def __init__(self) -> None:
        self.begun = {"a": 0, "b": 0}
        self.answers: dict[str, asyncio.Future[list[str]]] = {}

    def reads(self) -> dict[str, Callable[[], Awaitable[list[str]]]]:
        return {"a": lambda: self.read("a"), "b": lambda: self.read("b")}

    async def read(self, place: str) -> list[str]:
        self.begun[place] += 1
        self.answers[place] = asyncio.get_running_loop().create_future()
        return await self.answers[place]


async def begun(underway: Underway, parts: Parts) -> "asyncio.Task[tuple[list[str], list[LogUnavailable]]]":
    task = asyncio.create_task(underway.some(parts.reads(), every=False))
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def test_what_comes_after_the_first_answer_is_there_for_the_next_call() -> None:
    underway, parts = Underway(), Parts()
    task = await begun(underway, parts)
    parts.answers["a"].set_result(["first"])
    assert await task == (["first"], [])
    parts.answers["b"].set_result(["late"])
    assert await (await begun(underway, parts)) == (["late"], [])
    assert parts.begun == {"a": 2, "b": 1}


async def test_who_is_cancelled_takes_no_read_along() -> None:
    underway, parts = Underway(), Parts()
    task = await begun(underway, parts)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    parts.answers["b"].set_result(["kept"])
    assert await (await begun(underway, parts)) == (["kept"], [])


async def test_who_asks_no_more_waits_for_the_rest() -> None:
    underway, parts = Underway(), Parts()
    task = await begun(underway, parts)
    parts.answers["a"].set_result(["first"])
    await task
    rest = asyncio.create_task(underway.rest(lambda place: place in "ab"))
    await asyncio.sleep(0)
    parts.answers["b"].set_result(["last"])
    assert await rest == ["last"]
    assert await underway.rest(lambda _: True) == []


async def test_one_that_is_away_is_said_to_be_only_when_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_underway, "PAUSE_S", 0)
    underway, parts = Underway(), Parts()
    task = await begun(underway, parts)
    parts.answers["a"].set_exception(LogUnavailable("away"))
    found, away = await task
    assert (found, [str(error) for error in away]) == ([], ["away"])
    task = await begun(underway, parts)
    parts.answers["b"].set_exception(LogUnavailable("away, too"))
    with pytest.raises(LogUnavailable, match="away"):
        await task


async def test_what_nobody_asks_for_again_is_forgotten_where_it_may_be_read_again() -> None:
    underway, parts = Underway(forget_after_s=0), Parts()
    task = await begun(underway, parts)
    parts.answers["a"].set_result(["first"])
    await task
    parts.answers["b"].set_result(["nobody's"])
    await asyncio.sleep(0.01)
    other = asyncio.create_task(underway.some({"c": lambda: parts.read("a")}, every=False))
    for _ in range(3):
        await asyncio.sleep(0)
    parts.answers["a"].set_result(["else"])
    await other
    assert await underway.rest(lambda _: True) == []
