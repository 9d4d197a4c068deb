"""Small facts every process of a service must agree on, and that may be forgotten: tickets, and who asked how often.

They live in Redis beside the log, under keys of their own, each with an expiry.
"""

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MovedError, ReadOnlyError, RedisClusterException, RedisError

from libs.addresses import EachAddress
from libs.service.tokens import Claims

TICKET_LIFETIME = timedelta(seconds=30)
TICKET_CHARS_MAX = 100
ANSWER_SECONDS_MAX = 2.0
AWAY_S = 1.0  # how long a node of a cluster that failed is not asked again
CONNECTIONS_MAX = 8  # of one process; beyond: wait for one

# The generic cell rate algorithm: one number per key, the time at which all that was asked would have been paid for.
_SPEND = """
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local every, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
if due - now > burst * every + 1 then
  due = now -- no one can owe more than all of the rate: the clock was set back, and he would wait for it to come again
end
local after = due + every * cost
local free = burst * every - (after - now)
if free < -0.1 then -- the parts of a window, in milliseconds, seldom add up to it
  return {0, tostring(burst * every - (due - now)), tostring(-free)}
end
redis.call('SET', KEYS[1], string.format('%.3f', after), 'PX', math.ceil(after - now) + 1)
return {1, tostring(math.max(0, free)), '0'}"""


class SharedUnavailable(Exception):
    """Redis did not answer."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many per window, all of which may come at once."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Spent:
    """`remaining`: may come at once now; `reset_s`: until all of the rate is there again; `wait_s`: when refused."""

    allowed: bool
    remaining: int
    reset_s: float
    wait_s: float


class Shared:
    """Raises SharedUnavailable everywhere."""

    def __init__(self, client: Any, in_cluster: Callable[[], Awaitable[Any]]) -> None:
        """`in_cluster`: makes the client to use from when a node says that it is one of several."""
        self._node, self._in_cluster = client, in_cluster
        self._cluster: Any = None
        self._finding = asyncio.Lock()
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)
        self._away_until: dict[str, float] = {}

    async def make_ticket(self, claims: Claims) -> tuple[str, datetime]:
        """A ticket that stands for `claims` once, and until when."""
        ticket = secrets.token_urlsafe(32)
        until = min(datetime.now(UTC) + TICKET_LIFETIME, claims.expires_at)
        value = f"{claims.user_id} {claims.expires_at.isoformat()}"
        left_ms = max(1, int((until - datetime.now(UTC)).total_seconds() * 1000))
        key = _ticket_key(ticket)
        await self._ask(key, "SET", key, value, "PX", left_ms)
        return ticket, until

    async def take_ticket(self, ticket: str) -> Claims | None:
        """What the ticket stands for; None: it is none, was used, or is too old."""
        if not 0 < len(ticket) <= TICKET_CHARS_MAX:
            return None
        key = _ticket_key(ticket)
        value = await self._ask(key, "GETDEL", key)
        if not value:
            return None
        user, _, expires_at = str(value).rpartition(" ")
        return Claims(user, datetime.fromisoformat(expires_at))

    async def spend(self, what: str, rate: Rate, cost: int = 1) -> Spent:
        """Count `cost` of `what` against its rate; nothing is counted when that is refused."""
        every_ms = rate.seconds * 1000 / rate.count
        key = f"swaplog:rate:{what}"
        allowed, free_ms, wait_ms = await self._ask(key, "EVAL", _SPEND, 1, key, every_ms, rate.count, cost)
        free = float(free_ms)
        return Spent(bool(allowed), math.floor(free / every_ms), rate.seconds - free / 1000, float(wait_ms) / 1000)

    async def _ask(self, key: str, *command: Any) -> Any:
        node, asked = self._node_of(key), False
        self._check_there(node)
        try:
            # A client of a cluster does not wait for one of its connections, it refuses.
            async with asyncio.timeout(ANSWER_SECONDS_MAX), self._room:
                asked = True
                reply = await self._answer(*command)
        # A timeout is an OSError; uvloop raises RuntimeError; what a cluster's client raises is no RedisError.
        except (RedisError, RedisClusterException, OSError, RuntimeError) as error:
            if node and asked:
                self._away_until[node] = time.monotonic() + AWAY_S
            raise SharedUnavailable(str(error) or type(error).__name__) from error
        self._away_until.pop(node, None)
        return reply

    async def _answer(self, *command: Any) -> Any:
        try:
            return await (self._cluster or self._node).execute_command(*command)
        except MovedError:
            async with self._finding:
                self._cluster = self._cluster or await self._in_cluster()
            return await self._cluster.execute_command(*command)
        except ReadOnlyError:
            # It was made a replica: its name may lead to another by now, and these connections never would.
            await self._node.connection_pool.disconnect(inuse_connections=False)
            raise

    def _node_of(self, key: str) -> str:
        """The node of a cluster that has the key; empty where that is not known."""
        try:
            return str(self._cluster.get_node_from_key(key).name) if self._cluster else ""
        except RedisClusterException:
            return ""

    def _check_there(self, node: str) -> None:
        """Only one call at a time tries a node that was away: more would take the connections that others need."""
        until, now = self._away_until.get(node, 0.0), time.monotonic()
        if now < until:
            raise SharedUnavailable("a node of the cluster is away")
        if until:
            self._away_until[node] = now + ANSWER_SECONDS_MAX


def _ticket_key(ticket: str) -> str:
    # Whoever reads Redis must not find tickets to use.
    return f"swaplog:ticket:{sha256(ticket.encode()).hexdigest()}"


@asynccontextmanager
async def open_shared(url: str) -> AsyncIterator[Shared]:
    """Connects when first used."""
    options: dict[str, Any] = {
        "decode_responses": True,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": 2,
    }
    pool = BlockingConnectionPool.from_url(
        url,
        connection_class=EachAddress,
        max_connections=CONNECTIONS_MAX,
        timeout=ANSWER_SECONDS_MAX,
        **options,
    )
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Redis.from_pool(pool))

        async def in_cluster() -> Any:
            cluster = RedisCluster.from_url(url, **options)
            stack.push_async_callback(cluster.aclose)
            # Before anybody uses it: while it finds its nodes, it closes connections others already use.
            return await cluster.initialize()

        yield Shared(client, in_cluster)
