"""The load: users, orders, a closed loop for throughput and an open one for latency. Every loop is bounded."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from urllib.parse import urlsplit
from uuid import uuid4

import orjson

from tests.bench.figures import Result, latencies_ms, per_second, schedule
from tests.bench.http import Answer, Connection, connect, request_bytes
from tests.bench.watch import Socket, Watch, open_sockets

ORDERS_MAX, CONNECTIONS_MAX, SECONDS_MAX = 200_000, 1_000, 600
END_WITHIN_S = 120
ORDER = orjson.dumps({"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"})


class LoadError(Exception):
    """The stack did not do what a load needs."""


@dataclass
class Sent:
    """What became of the posts of one run."""

    posted_at: dict[str, float] = field(default_factory=dict)
    answer_s: list[float] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)

    def count(self, answer: Answer, began: float) -> None:
        now = time.perf_counter()
        self.answer_s.append(now - began)
        if answer.status == 202:
            self.posted_at[orjson.loads(answer.body)["orderId"]] = began
        else:
            self.refused[answer.status] += 1


@dataclass
class Users:
    """Signed-up users with one socket each."""

    host: str
    port: int
    requests: list[bytes]
    watch: Watch
    sockets: list[Socket]

    def close(self) -> None:
        for socket in self.sockets:
            socket.close()


async def sign_up(base_url: str, count: int) -> Users:
    """New users, each with a WebSocket that watches all their orders."""
    parts = urlsplit(base_url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    connection = await connect(host, port)
    tokens: list[str] = []
    for _ in range(count):
        body = orjson.dumps({"email": f"{uuid4().hex}@bench.example", "password": "bench password"})
        answer = await connection.ask(request_bytes(host, "POST", "/api/auth/signup", body))
        if answer.status != 201:
            raise LoadError(f"signing up: HTTP {answer.status} {answer.body[:200]!r}")
        tokens.append(orjson.loads(answer.body)["token"])
    connection.close()
    watch = Watch()
    sockets = await open_sockets(watch, host, port, tokens)
    requests = [request_bytes(host, "POST", "/api/orders", ORDER, token) for token in tokens]
    return Users(host, port, requests, watch, sockets)


async def throughput(users: Users, orders: int, connections: int) -> Result:
    """Post `orders` over kept connections as fast as they are answered; then wait until all have ended."""
    left, requests, sent = iter(range(min(orders, ORDERS_MAX))), cycle(users.requests), Sent()

    async def poster(connection: Connection) -> None:
        for _ in left:
            began = time.perf_counter()
            sent.count(await connection.ask(next(requests)), began)
        connection.close()

    opened = [await connect(users.host, users.port) for _ in range(min(connections, CONNECTIONS_MAX))]
    began = time.perf_counter()
    await asyncio.gather(*map(poster, opened))
    posted_s = time.perf_counter() - began
    await _all_ended(users, sent)
    ended_s = time.perf_counter() - began
    return {
        "orders": len(sent.posted_at),
        "connections": connections,
        "accepted_per_s": per_second(len(sent.posted_at), posted_s),
        "completed_per_s": per_second(len(sent.posted_at), ended_s),
        "post_ms": latencies_ms(sent.answer_s),
        **_outcomes(users, sent),
    }


async def latency(users: Users, rate: float, seconds: float) -> Result:
    """Post at fixed times, whatever the answers do; each order is timed from when it was due to be sent."""
    times, sent, idle = schedule(rate, min(seconds, SECONDS_MAX)), Sent(), list[Connection]()
    requests, tasks = cycle(users.requests), set[asyncio.Task[None]]()
    began = time.perf_counter() + 0.1

    async def post(due: float) -> None:
        connection = idle.pop() if idle else await connect(users.host, users.port)
        sent.count(await connection.ask(next(requests)), due)
        idle.append(connection)

    for offset in times:
        await asyncio.sleep(max(0, began + offset - time.perf_counter()))
        task = asyncio.create_task(post(began + offset))
        tasks.add(task)
    await asyncio.gather(*tasks)
    await _all_ended(users, sent)
    for connection in idle:
        connection.close()
    ends = users.watch.ends
    return {
        "orders": len(sent.posted_at),
        "rate_per_s": rate,
        "post_ms": latencies_ms(sent.answer_s),
        "confirmed_ms": latencies_ms([ends[order_id].at - due for order_id, due in sent.posted_at.items()]),
        **_outcomes(users, sent),
    }


async def _all_ended(users: Users, sent: Sent) -> None:
    try:
        async with asyncio.timeout(END_WITHIN_S):
            await users.watch.until_ended(sent.posted_at)
    except TimeoutError:
        missing = len(sent.posted_at.keys() - users.watch.ends.keys())
        raise LoadError(f"{missing} orders had not ended after {END_WITHIN_S} s") from None


def _outcomes(users: Users, sent: Sent) -> Result:
    ended = Counter(users.watch.ends[order_id].status for order_id in sent.posted_at)
    return {"ended": dict(ended), "refused": {str(status): count for status, count in sent.refused.items()}}
