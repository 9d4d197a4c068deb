"""How many suspected items are handled at once."""

import asyncio

import pytest

from libs.events.suspects import Suspects
from libs.events.worker_limits import WorkerLimits

LIMITS = WorkerLimits(deliveries_max=5, suspect_from_delivery=3, suspects_at_once=64)


@pytest.mark.parametrize(("deliveries", "at_once"), [(1, 0), (2, 0), (3, 64), (4, 8), (5, 1), (9, 1)])
def test_fewer_with_each_delivery_and_the_last_try_alone(deliveries: int, at_once: int) -> None:
    assert Suspects(LIMITS).at_once(deliveries) == at_once


async def peak(*waves: int) -> dict[int, int]:
    """The most that were handled together, by deliveries; a lone one is checked to have nobody beside it."""
    suspects, now, most = Suspects(LIMITS), dict.fromkeys(waves, 0), dict.fromkeys(waves, 0)

    async def handle(deliveries: int) -> None:
        async with suspects.room(deliveries):
            now[deliveries] += 1
            most[deliveries] = max(most[deliveries], now[deliveries])
            if deliveries == LIMITS.deliveries_max:
                assert sum(now.values()) == 1
            await asyncio.sleep(0)
            now[deliveries] -= 1

    await asyncio.gather(*(handle(deliveries) for _ in range(100) for deliveries in waves))
    return most


async def test_they_wait_for_room_and_all_get_it() -> None:
    assert await peak(3) == {3: 64}
    assert await peak(4) == {4: 8}
    assert await peak(5) == {5: 1}
    assert (await peak(3, 4, 5))[5] == 1


async def test_who_gives_up_waiting_takes_no_room() -> None:
    suspects = Suspects(LIMITS)
    async with suspects.room(5):
        waiting = asyncio.create_task(suspects.room(5).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(60), suspects.room(5):
        pass
