"""Connections to Redis, with the defaults of redis-py undone where they break a log, and its errors given our names."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from libs.addresses import EachAddress
from libs.events.errors import EventLogError, LogUnavailable, OutcomeUnknown
from libs.events.redis_wire import Wire

FENCED = "Redis restarted; the log is being checked"
REPLICA = "this Redis is a replica"

# Writing to a connection that was reset between two commands, uvloop raises a bare RuntimeError.
_BROKEN = (RedisError, OSError, RuntimeError)

# redis-py types every reply as the union over both protocols and both decodings: no help to a reader or to mypy.
Client = Any

# Redis' words, and Valkey's.
IN_CLUSTER = {"redis_mode:cluster", "server_mode:cluster"}

CONNECT_TIMEOUT_S = 5
REPLY_TIMEOUT_S = 5
BLOCK_MS_MAX = 2_000
# Longer than any BLOCK, so a quiet stream is not taken for a dead server; finite, so a half-open socket is noticed.
READER_TIMEOUT_S = BLOCK_MS_MAX / 1_000 + 5


def connect(url: str, *, on_connect: Callable[[Any], Any] | None = None) -> Client:
    """A client that never repeats a command by itself: a silent second XADD would be a second fact.

    `on_connect` is awaited with every new connection. There is no timeout in it: redis-py's needs a task for every
    command, and before Python 3.12 its `wait_for` may swallow a cancellation (bpo-37658), so that nothing would end.
    `Pipe` and `Readers` bound every exchange.
    """
    return Redis.from_url(
        url,
        connection_class=EachAddress,
        decode_responses=True,
        encoding_errors="replace",
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=None,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        redis_connect_func=on_connect,
    )


async def learn_run(connection: Any) -> None:
    """Note which run of Redis the connection leads to, and whether that is a node of a cluster.

    A connection ends with the run, so it is true while it lasts.
    """
    await connection.on_connect()
    await connection.send_command("INFO", "server")
    lines = str(await connection.read_response()).splitlines()
    connection.swaplog_run = next(line.partition(":")[2] for line in lines if line.startswith("run_id:"))
    connection.swaplog_in_cluster = not IN_CLUSTER.isdisjoint(lines)


def as_dict(flat: Sequence[str]) -> dict[str, str]:
    """Names and values in turn, as Redis lists a hash or an entry."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def translate(error: Exception) -> EventLogError:
    """The error of a read, or of a write that is known not to have happened; one that has our name keeps it."""
    return error if isinstance(error, EventLogError) else LogUnavailable(str(error) or type(error).__name__)


class Readers:
    """Connections kept for questions that may wait long for their answer: each has one to itself meanwhile."""

    def __init__(self, client: Client) -> None:
        self._pool = client.connection_pool
        self._idle: list[Wire] = []
        self._in_use: set[Wire] = set()
        self._room = asyncio.Semaphore(self._pool.max_connections)

    def leave(self) -> None:
        """Ask over none of today's connections any more: they may lead to another server than new ones."""
        for wire in (*self._idle, *self._in_use):
            wire.end("Redis is another one now")

    async def ask(self, *command: Any, raw: bool = False) -> Any:
        """The reply to one command that may be repeated without harm; `raw`: texts stay bytes.

        Raises:
            LogUnavailable
        """
        await self._wait_for_room()
        try:
            reply = await self._reply(list(command), raw=raw)
        finally:
            self._room.release()
        if isinstance(reply, Exception):
            raise translate(reply)
        return reply

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._room.acquire()
        except TimeoutError:
            raise LogUnavailable("all connections to Redis are in use") from None  # which is no sign of its being away

    async def _reply(self, command: list[Any], *, raw: bool) -> Any:
        wire = await self._take()
        self._in_use.add(wire)
        within_s = READER_TIMEOUT_S if "BLOCK" in command else REPLY_TIMEOUT_S
        try:
            (reply,) = await wire.ask([command], within_s=within_s, raw=raw)
        except OutcomeUnknown as error:
            raise LogUnavailable(str(error)) from error
        finally:
            self._in_use.discard(wire)
            if wire.quiet and not wire.lost:
                self._idle.append(wire)
            else:
                # A reply not yet read would hold up somebody else's question.
                wire.end()
                await let_go(self._pool, wire)
        return reply

    async def _take(self) -> Wire:
        while self._idle:
            wire = self._idle.pop()
            if not wire.lost:
                return wire
            await let_go(self._pool, wire)
        return await wired(self._pool)


class Pipe:
    """One connection for writes: several commands out in one go, their replies back in order."""

    def __init__(self, client: Client, readers: Readers | None = None) -> None:
        """`client`: connects with `learn_run`. `readers`: those of the same server."""
        self._pool, self._readers = client.connection_pool, readers
        self._wire: Wire | None = None
        self._connecting = asyncio.Lock()
        self._failed: tuple[float, str] = (0.0, "")  # when, and why
        self.run = ""
        """The run of Redis that was sent to last."""

    async def send(self, commands: list[list[Any]] | Callable[[str], list[list[Any]]]) -> list[Any]:
        """Replies in order; an error reply is an exception in the list.

        Commands that must name the run of Redis they are for are given as a function of it.

        Raises:
            LogUnavailable: no connection could be made, nothing was sent.
            OutcomeUnknown: the connection broke after sending.
        """
        wire = self._wire
        if wire is None or wire.lost:
            wire = await self._connected()
        self.run = wire.run
        return await wire.ask(commands(wire.run) if callable(commands) else commands, within_s=REPLY_TIMEOUT_S)

    async def check_primary(self) -> None:
        """Give the connection up if it leads to a replica: the name may lead to another server by now.

        Raises:
            LogUnavailable: it does, or there is none.
        """
        (said,) = await self.send([["INFO", "replication"]])
        if "role:slave" in str(said) and self._wire:
            self._wire.end(REPLICA)
            raise LogUnavailable(REPLICA)

    async def in_cluster(self) -> bool:
        """Whether this is a node of a cluster.

        Raises:
            LogUnavailable
        """
        return (await self._connected()).in_cluster

    async def _connected(self) -> Wire:
        # One connects; those that came meanwhile find its connection, or that there was none to be had.
        came_at = time.monotonic()
        async with self._connecting:
            if self._wire and not self._wire.lost:
                return self._wire
            failed_at, reason = self._failed
            if failed_at >= came_at:
                raise LogUnavailable(reason)
            if self._wire:
                await let_go(self._pool, self._wire)
                self._wire = None
            try:
                self._wire = await wired(self._pool)
            except LogUnavailable as error:
                self._failed = time.monotonic(), str(error)
                raise
            if self._readers and self.run not in {"", self._wire.run}:
                # Not only restarted, maybe: another that took over may lack what the old one still tells.
                self._readers.leave()
            return self._wire


async def wired(pool: Any) -> Wire:
    """A connection of its own.

    Raises:
        LogUnavailable: Redis cannot be reached.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return Wire(await pool.get_connection())
    except _BROKEN as error:
        raise LogUnavailable(str(error) or type(error).__name__) from error


async def let_go(pool: Any, wire: Wire) -> None:
    """Give a connection back to the pool, which makes it anew when it needs one."""
    await wire.connection.disconnect(nowait=True)
    await pool.release(wire.connection)
