"""Sees orders end where nobody watches all of them: the last ones by their sockets, then every one in the lists."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import orjson

from tests.bench.client import Connection, connect, request_bytes
from tests.bench.users import Crowd
from tests.bench.watch import TERMINAL, Watch, WatchLost, watch_order

LAST = 8
PAGE = 200
PAGES_MAX = 10_000
ASK_AGAIN_S = 0.1
now = time.perf_counter


async def until_last_ended(crowd: Crowd, owner: Mapping[str, int], within_s: float) -> float:
    """When the last accepted ones of `owner` (order to user) had all ended; or now, if that cannot be seen."""
    last, watch = list(owner)[-LAST:], Watch()
    with suppress(TimeoutError, WatchLost):
        async with asyncio.timeout(within_s):
            watchers = (watch_order(watch, crowd.place, crowd.users[owner[each]].token, each) for each in last)
            await asyncio.gather(*watchers)
            await watch.until_ended(last)
            return max((watch.ends[each].at for each in last), default=now())
    return now()


async def listed_ends(crowd: Crowd, owner: Mapping[str, int], within_s: float) -> tuple[Counter[str], bool]:
    """Status to the number of orders that ended so, and whether any was still on its way at first."""
    theirs: dict[int, set[str]] = defaultdict(set)
    for order_id, user in owner.items():
        theirs[user].add(order_id)
    statuses: Counter[str] = Counter()
    deadline, waited = now() + within_s, False
    line = await connect(*crowd.place)
    try:
        while theirs:
            for user, open_ids in list(theirs.items()):
                async for order in _orders(line, crowd, user):
                    if order["orderId"] in open_ids and order["status"] in TERMINAL:
                        open_ids.discard(order["orderId"])
                        statuses[order["status"]] += 1
                    if not open_ids:
                        del theirs[user]
                        break
            if not theirs or now() > deadline:
                break
            waited = True
            await asyncio.sleep(ASK_AGAIN_S)
    finally:
        line.close()
    return statuses, waited


async def _orders(line: Connection, crowd: Crowd, user: int) -> AsyncIterator[Mapping[str, Any]]:
    """A user's orders, newest first: a list, or pages of it."""
    path, cursor = f"/api/orders?limit={PAGE}", ""
    for _ in range(PAGES_MAX):
        asked = path + (f"&cursor={cursor}" if cursor else "")
        answer = await line.ask(request_bytes(crowd.place.header, "GET", asked, token=crowd.users[user].token))
        body = orjson.loads(answer.body)
        for order in body if isinstance(body, list) else body["orders"]:
            yield order
        cursor = "" if isinstance(body, list) else body["nextCursor"] or ""
        if not cursor:
            return
