"""What an order costs, and how long a list takes, in a store that holds few orders, and in one that holds very many."""

import time
from typing import Any

import asyncpg
import orjson

from tests.bench.client import Connection, connect, request_bytes
from tests.bench.copies import FAR_ON, Copies
from tests.bench.cpu import CpuMeter
from tests.bench.figures import Result, latencies_ms
from tests.bench.load import throughput
from tests.bench.target import Target
from tests.bench.users import Crowd

LISTERS, LISTS = 8, 25  # users, and times each asks
PAGE = 50
# An order in the midst of those of the owner of the order $1.
MIDST = """
SELECT id::text FROM orders WHERE user_id = (SELECT user_id FROM orders WHERE id::text = $1) ORDER BY id
OFFSET (SELECT count(*) / 2 FROM orders WHERE user_id = (SELECT user_id FROM orders WHERE id::text = $1)) LIMIT 1"""


async def measure(
    target: Target, crowd: Crowd, cpu: CpuMeter, *, levels: list[int], orders: int, connections: int
) -> Result:
    """The same load and the same lists with so many orders in the store.

    Raises:
        OSError: nobody listens.
    """
    found: Result = {}
    connection = await asyncpg.connect(target.database_url)
    try:
        await throughput(crowd, cpu, orders=orders, connections=connections)
        copies = Copies(connection)
        await copies.begin()
        for level in levels:
            await copies.grow(max(0, level // copies.orders - 1), FAR_ON)
            await copies.end()
            held = await connection.fetchval("SELECT count(*) FROM orders")
            load = await throughput(crowd, cpu, orders=orders, connections=connections)
            found[str(level)] = {"held": held, **load, "lists": await _lists(connection, crowd)}
    finally:
        await connection.close()
    first, last = (found[str(level)] for level in (levels[0], levels[-1]))
    costs = [each["cpu_ms_per_order"]["total"] for each in (last, first)]
    return {**found, "cost_at_most_of_at_least": round(costs[0] / costs[1], 2)}


async def _lists(connection: asyncpg.Connection, crowd: Crowd) -> Result:
    """The newest page of users in turn, and one from the midst of their orders."""
    line = await connect(*crowd.place)
    newest, deep = list[float](), list[float]()
    try:
        for user in crowd.users[:LISTERS]:
            path = f"/api/orders?limit={PAGE}"
            first = await _asked(line, crowd, user.token, path)
            midst = await connection.fetchval(MIDST, first["orders"][0]["orderId"])
            for asked, took in ((path, newest), (f"{path}&cursor={midst}", deep)):
                for _ in range(LISTS):
                    began = time.perf_counter()
                    await _asked(line, crowd, user.token, asked)
                    took.append(time.perf_counter() - began)
    finally:
        line.close()
    return {"newest_ms": latencies_ms(newest), "deep_ms": latencies_ms(deep)}


async def _asked(line: Connection, crowd: Crowd, token: str, path: str) -> dict[str, Any]:
    answer = await line.ask(request_bytes(crowd.place.header, "GET", path, token=token))
    if answer.status != 200:
        raise RuntimeError(f"a list was answered with HTTP {answer.status}: {answer.body[:200]!r}")
    return dict(orjson.loads(answer.body))
