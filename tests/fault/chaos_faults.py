"""What goes wrong in a run of chaos: a seeded schedule of everything that can be killed, paused, cut or emptied."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from deploy.local.stack import Stack

WORKERS = ("router", "router-2", "executor", "executor-2")
SERVICES = ("gateway", "notifier", *WORKERS, "projector", "localnet")
STORES = ("redis", "postgres")
PAUSE_S = (0.2, 4.0)
LONG_PAUSE_S = 55.0  # beyond the claim's idle time: others take over, and who wakes up finds it is not his any more
GAP_S = (0.2, 1.5)
TROUBLES: tuple[dict[str, object], ...] = (
    {"drop_rate": 0.2},
    {"revert_rate": 0.2},
    {"slippage_rate": 0.2},
    {"latency_ms": 200},
    {"outages": ["raydium"]},
    {"outages": ["meteora", "raydium"]},
    {"outages": ["rpc"]},
    {"venue_latency_ms": {"meteora": 3_000}},
    {"expire_blockhashes": True},
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to the system; `at_ms` is Unix time."""

    kind: str
    target: str
    at_ms: int


class Chaos:
    """Does one thing after the other, as the seed says, until cancelled; `heal` ends what lasts."""

    def __init__(self, stack: Stack, seed: int, *, long_pauses: bool) -> None:
        self.done: list[Fault] = []
        self._stack, self._random, self._long_pauses = stack, random.Random(seed), long_pauses
        self._paused: dict[str, asyncio.Task[None]] = {}
        self._kinds: tuple[tuple[float, Callable[[], Awaitable[str]]], ...] = (
            (6, self.kill),
            (3, self.pause),
            (1, self.kill_redis),
            (1, self.kill_postgres),
            (2, self.world_outside),
            (1, self.cut_redis),
            (1, self.cut_postgres),
            (0.5, self.scripts_forgotten),
        )

    async def run(self) -> None:
        """Harm until cancelled."""
        weights = [weight for weight, _ in self._kinds]
        while True:
            await asyncio.sleep(self._random.uniform(*GAP_S))
            (act,) = self._random.choices([act for _, act in self._kinds], weights)
            began = time.time_ns() // 1_000_000
            with suppress(aiohttp.ClientError, OSError, RedisError, asyncpg.PostgresError, TimeoutError):
                target = await act()
                self.done.append(Fault(act.__name__, target, began))

    async def heal(self) -> None:
        """Everything runs again, and the world outside is well."""
        for task in self._paused.values():
            task.cancel()
        await asyncio.gather(*self._paused.values(), return_exceptions=True)
        await self._stack.until_ready()
        await self._trouble("DELETE", {})

    async def kill(self) -> str:
        name = self._random.choice(SERVICES)
        await self._stack.kill(name)
        return name

    async def kill_redis(self) -> str:
        await self._stack.kill("redis")
        return "redis"

    async def kill_postgres(self) -> str:
        await self._stack.kill("postgres")
        return "postgres"

    async def pause(self) -> str:
        name = self._random.choice((*SERVICES, *STORES))
        long = self._long_pauses and name in WORKERS and self._random.random() < 0.3
        seconds = LONG_PAUSE_S if long else self._random.uniform(*PAUSE_S)
        if name not in self._paused:
            self._paused[name] = asyncio.create_task(self._freeze(name, seconds))
        return f"{name} (long)" if long else name

    async def _freeze(self, name: str, seconds: float) -> None:
        await self._stack.kill(name, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            await self._stack.kill(name, signal.SIGCONT)
            del self._paused[name]

    async def world_outside(self) -> str:
        trouble = self._random.choice(TROUBLES)
        await self._trouble("DELETE", {})
        await self._trouble("PUT", trouble)
        return ", ".join(f"{name}={value}" for name, value in trouble.items())

    async def _trouble(self, method: str, body: dict[str, object]) -> None:
        url = f"http://127.0.0.1:{self._stack.ports.localnet}/admin/trouble"
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession() as session, session.request(method, url, json=body, timeout=timeout):
            pass

    async def cut_redis(self) -> str:
        """Every connection reset at once."""
        async with asyncio.timeout(5), Redis.from_url(self._stack.redis_url) as redis:
            await redis.client_kill_filter(_type="normal", skipme=True)
        return "redis"

    async def cut_postgres(self) -> str:
        """Every backend terminated, whatever transaction it is in."""
        connection = await asyncpg.connect(self._stack.database_url, timeout=5)
        try:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()", timeout=5
            )
        finally:
            connection.terminate()
        return "postgres"

    async def scripts_forgotten(self) -> str:
        async with asyncio.timeout(5), Redis.from_url(self._stack.redis_url) as redis:
            await redis.script_flush()
        return "redis"
