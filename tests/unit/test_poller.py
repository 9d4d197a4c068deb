"""One poller looks for all, soon and seldom: in a world whose clock only it moves."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import pytest

from services.executor.chain import Chain
from services.executor.domain import Look, TxStatus
from services.executor.poller import Poller
from services.executor.rpc import ChainUnavailable
from tests.simulation.loop import simulate

PAUSE_MAX_MS = 64
CONFIRMED = TxStatus(5, "confirmed", None)
PROCESSED = TxStatus(5, "processed", None)

Answer = Callable[[str, float], Look]


class Node:
    """Answers by signature and time; keeps when it was asked for what."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[tuple[float, tuple[str, ...]]] = []

    async def look(self, signatures: Sequence[str]) -> list[Look]:
        now = asyncio.get_running_loop().time()
        self.asked.append((now, tuple(sorted(signatures))))
        return [self._answer(signature, now) for signature in signatures]

    def times_of(self, signature: str) -> list[float]:
        return [round(at * 1_000, 3) for at, signatures in self.asked if signature in signatures]


def poller_of(node: Node) -> Poller:
    return Poller(cast("Chain", node), PAUSE_MAX_MS)


def nothing(_signature: str, _now: float) -> Look:
    return Look(9, None)


def test_it_looks_at_once_and_then_less_and_less_often_until_the_time_is_up() -> None:
    node = Node(nothing)

    async def watching() -> Look | None:
        found = await poller_of(node).watch("a", 1_000)
        await asyncio.sleep(10)
        return found

    assert simulate(watching, 1) is None
    times = node.times_of("a")
    assert times[0] == 0
    gaps = [later - sooner for sooner, later in pairwise(times)]
    assert gaps[0] <= 2 * 2
    assert all(PAUSE_MAX_MS / 2 <= gap <= PAUSE_MAX_MS * 1.5 for gap in gaps[8:])
    assert 1_000 / PAUSE_MAX_MS <= len(times) <= 1_000 / PAUSE_MAX_MS + 8


def test_what_is_settled_is_told_at_the_next_look_and_not_looked_at_again() -> None:
    node = Node(lambda _, now: Look(9, CONFIRMED if now >= 0.2 else PROCESSED if now >= 0.1 else None))

    async def watching() -> tuple[Look | None, float]:
        found = await poller_of(node).watch("a", 1_000)
        seen_at = asyncio.get_running_loop().time()
        await asyncio.sleep(1)  # of the simulated clock
        return found, seen_at

    found, seen_at = simulate(watching, 1)
    assert found == Look(9, CONFIRMED)
    assert 0.2 <= seen_at <= 0.2 + PAUSE_MAX_MS * 1.5 / 1_000
    assert node.times_of("a")[-1] == pytest.approx(seen_at * 1_000)


def test_many_share_a_look_and_the_one_that_is_settled_leaves() -> None:
    node = Node(lambda signature, now: Look(9, CONFIRMED if signature == "0" and now >= 0.1 else None))

    async def watching() -> None:
        poller = poller_of(node)
        await asyncio.gather(*(poller.watch(str(number), 1_000) for number in range(20)))

    simulate(watching, 1)
    assert len(node.asked) <= 1_000 / PAUSE_MAX_MS + 8 + 20, "hardly more than for one"
    assert len(node.times_of("0")) < len(node.times_of("1"))


def test_a_new_slot_that_one_look_shows_brings_the_others_forward() -> None:
    def a_slot_between_two_looks(_signature: str, now: float) -> Look:
        return Look(10 if now >= 0.47 else 9, None)

    def looks_then(with_another: bool) -> list[float]:
        node = Node(a_slot_between_two_looks)

        async def watching() -> None:
            poller = poller_of(node)
            first = asyncio.create_task(poller.watch("a", 1_000))
            await asyncio.sleep(0.47)
            if with_another:
                await poller.watch("b", 1)
            await first

        simulate(watching, 1)
        return [at for at in node.times_of("a") if 470 <= at < 500]

    assert looks_then(with_another=False) == []
    assert looks_then(with_another=True) != []


def test_a_node_away_is_asked_again_but_not_all_the_time() -> None:
    def away(_signature: str, now: float) -> Look:
        if now < 0.5:
            raise ChainUnavailable("away")
        return Look(9, CONFIRMED)

    node = Node(away)

    async def watching() -> Look | None:
        return await poller_of(node).watch("a", 1_000)

    assert simulate(watching, 1) == Look(9, CONFIRMED)
    assert len(node.asked) <= 8


def test_a_fault_of_ours_is_told_to_everybody_who_waits_and_the_next_may_watch_again() -> None:
    def faulty(_signature: str, now: float) -> Look:
        if now < 0.1:
            raise RuntimeError("a bug")
        return Look(9, CONFIRMED)

    async def watching() -> tuple[list[object], Look | None]:
        poller = poller_of(Node(faulty))
        told = await asyncio.gather(poller.watch("a", 5_000), poller.watch("b", 5_000), return_exceptions=True)
        assert asyncio.get_running_loop().time() < 1
        await asyncio.sleep(0.2)
        return list(told), await poller.watch("c", 1_000)

    told, found = simulate(watching, 1)
    assert [str(error) for error in told] == ["a bug", "a bug"]
    assert found == Look(9, CONFIRMED)


def test_when_it_is_closed_nobody_is_asked_any_more() -> None:
    node = Node(nothing)

    async def watching() -> float:
        poller = poller_of(node)
        waiting = asyncio.create_task(poller.watch("a", 1_000))
        await asyncio.sleep(0.1)
        await poller.aclose()
        closed_at = asyncio.get_running_loop().time()
        assert await waiting is None
        return closed_at

    closed_at = simulate(watching, 1)
    assert node.times_of("a")[-1] <= closed_at * 1_000
