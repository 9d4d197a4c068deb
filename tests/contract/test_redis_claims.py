"""Claiming in pages: what lies behind a thousand items in good hands is found as well."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.events import redis_taking
from libs.events.log import Committed
from libs.events.reactions import ROUTER
from libs.events.redis_client import as_dict
from libs.events.redis_keys import Keys
from libs.events.redis_log import RedisLog, open_redis_log
from libs.events.redis_taking import PAGE
from libs.events.work import Item
from tests.builders import a_request
from tests.servers import flush_redis
from tests.waiting import eventually

# Redis looks at ten times the page, and gives up: it must be told next time where it was.
LOOKED_AT = 10 * PAGE
IN_GOOD_HANDS = LOOKED_AT + PAGE
IDLE_MS = 60_000


@pytest.fixture
async def log(redis_url: str) -> AsyncIterator[RedisLog]:
    await asyncio.to_thread(flush_redis, redis_url)
    async with open_redis_log(redis_url, 1) as opened:
        await opened.start(create=True)
        yield opened


async def test_an_item_behind_many_in_good_hands_is_claimed(log: RedisLog) -> None:
    steps = [a_request(1, f"user-{number}")[0] for number in range(IN_GOOD_HANDS + 1)]
    assert all(isinstance(outcome, Committed) for outcome in await asyncio.gather(*map(log.commit, steps)))
    items: list[Item] = []
    while len(items) <= IN_GOOD_HANDS:
        items += await log.take(ROUTER, "a", 500, 100)
    last = max(items, key=lambda item: tuple(map(int, item.id.split("-"))))
    await log._redis.send([["XCLAIM", Keys(0).work(ROUTER), ROUTER, "a", 0, last.id, "IDLE", 2 * IDLE_MS, "JUSTID"]])

    looks = 0

    async def claimed() -> list[str]:
        nonlocal looks
        looks += 1
        if looks > 3:
            raise RuntimeError("it is never reached")
        return [item.id for item in await log.claim(ROUTER, "b", IDLE_MS)]

    assert await eventually(claimed, what="the item is claimed") == [last.id]


async def test_consumers_that_never_came_back_are_forgotten_but_for_those_who_have_items(
    log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each container has a name of its own, and tomorrow's has another."""
    assert isinstance(await log.commit(a_request(1)[0]), Committed)
    assert await log.take(ROUTER, "busy", 1, 100)
    # As a read that brings nothing does, in some releases.
    await log._redis.send([["XGROUP", "CREATECONSUMER", Keys(0).work(ROUTER), ROUTER, "of yesterday"]])
    await log.claim(ROUTER, "me", IDLE_MS)
    assert await consumers(log) >= {"busy", "of yesterday"}, "a day has to pass"
    monkeypatch.setattr(redis_taking, "GONE_AFTER_MS", -1)
    monkeypatch.setattr(redis_taking, "LOOK_FOR_GONE_EVERY_S", 0)
    await log.claim(ROUTER, "me", IDLE_MS)
    left = await consumers(log)
    assert "busy" in left
    assert "of yesterday" not in left
    [item] = await log.claim(ROUTER, "me", 0)
    assert item.consumer == "me"


async def consumers(log: RedisLog) -> set[str]:
    (told,) = await log._redis.send([["XINFO", "CONSUMERS", Keys(0).work(ROUTER), ROUTER]])
    return {as_dict(one)["name"] for one in told}
