"""What a worker has in hand is what it works on: no more, so that there is room; no less, so that nobody takes it."""

import asyncio

from libs.events.in_hand import InHand
from libs.events.work import Item

FOR_EVER_S = 3_600.0


def item(number: int) -> Item:
    return Item("router", "one", 0, f"{number}-0", f"order-{number}", {})


async def done() -> None:
    await asyncio.sleep(0)


async def until(event: asyncio.Event) -> None:
    await event.wait()


async def test_an_item_is_in_hand_until_its_work_ends_and_makes_room_then() -> None:
    in_hand, go_on = InHand(2), asyncio.Event()
    in_hand.start([item(1)], until(go_on))
    in_hand.start([item(2)], done())
    assert (in_hand.room(), item(1) in in_hand, item(3) in in_hand) == (0, True, False)
    await in_hand.until_an_end(FOR_EVER_S)
    assert (in_hand.room(), in_hand.items()) == (1, [item(1)])
    go_on.set()
    await in_hand.until_an_end(FOR_EVER_S)
    assert (in_hand.room(), in_hand.items()) == (2, [])


async def test_who_waits_for_an_end_is_not_told_of_one_before() -> None:
    in_hand, go_on = InHand(2), asyncio.Event()
    in_hand.start([item(1)], done())
    in_hand.start([item(2)], until(go_on))
    await in_hand.until_an_end(FOR_EVER_S)
    again = asyncio.create_task(in_hand.until_an_end(FOR_EVER_S))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not again.done()
    go_on.set()
    await again


async def test_what_is_left_of_a_group_stays_when_the_group_ends() -> None:
    in_hand, go_on = InHand(4), asyncio.Event()

    async def group() -> None:
        in_hand.start([item(2)], until(go_on))

    in_hand.start([item(1), item(2)], group())
    await in_hand.until_an_end(FOR_EVER_S)
    assert in_hand.items() == [item(2)]
    go_on.set()
    assert await in_hand.drain(FOR_EVER_S) == []
    assert in_hand.room() == 4


async def test_draining_waits_for_what_ends_and_breaks_off_and_names_the_rest() -> None:
    in_hand, never, ended = InHand(4), asyncio.Event(), list[int]()

    async def soon() -> None:
        await asyncio.sleep(0.01)
        ended.append(1)

    in_hand.start([item(1)], soon())
    in_hand.start([item(2)], until(never))
    assert await in_hand.drain(0.2) == [item(2)]
    assert ended == [1]
    assert in_hand.items() == [], "it was broken off, and its end seen"


async def test_without_time_nothing_is_waited_for() -> None:
    in_hand, never = InHand(4), asyncio.Event()
    in_hand.start([item(1)], until(never))
    assert await in_hand.drain(0) == [item(1)]
    in_hand.start([item(2)], until(never))
    await in_hand.drop()
    assert in_hand.items() == []
