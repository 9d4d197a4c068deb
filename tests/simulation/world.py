"""The whole system in one process: the real worker runtime, router, executor, projector and notifier, on the log in
memory, with everything around them failing as a seed says."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
from solders.keypair import Keypair

from libs.events.errors import LogUnavailable, OutcomeUnknown
from libs.events.log import EventLog
from libs.events.memory_log import MemoryLog
from libs.events.retry import RetryPolicy
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.orders.store import Projection, StoreUnavailable
from libs.orders.views import OrderViews
from libs.service.health import Health
from services.executor.chain import Chain
from services.executor.handlers import Executor
from services.executor.poller import Poller
from services.executor.rpc import Rpc
from services.executor.venues import VenueSwaps
from services.executor.wallet import Wallet
from services.notifier.hub import Hub
from services.notifier.limits import Close, Limits
from services.notifier.subscriber import Subscriber
from services.notifier.tail import Tail
from services.notifier.wire import Message
from services.projector.handlers import Projector
from services.router.handlers import Router
from tests.builders import as_one
from tests.simulation.chain import SimulatedChain
from tests.simulation.projection import MemoryProjection

PARTITIONS = 2

USERS = ("alice", "bob")

BEGAN = datetime(2026, 1, 2, tzinfo=UTC)

WALLET = Wallet(str(Keypair()))

POLICY = RetryPolicy(attempts_max=1_000, base_ms=50, cap_ms=400)

LIMITS = WorkerLimits(
    claim_idle_ms=1_200,
    renew_every_s=0.5,
    claim_every_s=0.5,
    timers_every_s=0.4,
    deliveries_max=10**6,
    suspect_from_delivery=10**6,
    retry_base_s=0.02,
    retry_cap_s=0.3,
    handle_seconds_max=5,
)


@dataclass
class World:
    """What outlives the processes."""

    seed: int
    chance: random.Random = field(init=False)
    rough: bool = True
    transcripts: list[list[dict[str, Any]]] = field(default_factory=list)
    promised: dict[str, str] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)
    died: list[BaseException] = field(default_factory=list)
    live: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.log = MemoryLog(PARTITIONS, lambda: int(self.now().timestamp() * 1_000))
        self.chain = SimulatedChain(
            self.chance,
            WALLET.address,
            lambda: self.rough,
            knows_blockhashes=self.chance.random() < 0.7,
            takes_lists=self.chance.random() < 0.7,
        )
        self.projection = MemoryProjection()

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=asyncio.get_running_loop().time())

    def bad(self, chance: float) -> bool:
        return self.rough and self.chance.random() < chance


class Seen:
    """A store as one process reaches it: calls are late, fail, or lose their reply; a frozen process makes none."""

    def __init__(self, world: World, store: object, gate: asyncio.Event, away: type[Exception]) -> None:
        self._world, self._store, self._gate, self._away = world, store, gate, away

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._troubled(name, found) if asyncio.iscoroutinefunction(found) else found

    def _troubled(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        world = self._world

        async def troubled(*args: Any, **kwargs: Any) -> Any:
            await self._wait()
            if world.bad(0.05):
                raise self._away("connection refused")
            answer = await call(*args, **kwargs)
            if world.bad(0.07):
                raise (
                    OutcomeUnknown("the reply was lost")
                    if name.startswith("commit")
                    else self._away("connection reset")
                )
            await self._wait()
            return answer

        return troubled

    async def _wait(self) -> None:
        if self._world.bad(0.3):
            await asyncio.sleep(self._world.chance.random() * 0.1)
        await self._gate.wait()


class Wire:
    """A wire that notes what it is given."""

    def __init__(self, transcript: list[dict[str, Any]]) -> None:
        self.transcript, self.gone = transcript, asyncio.Event()

    async def begin(self) -> None:
        """It has begun already."""

    def send(self, messages: Sequence[Message]) -> int:
        self.transcript += [orjson.loads(message.payload) for message in messages]
        return 0

    @property
    def closed(self) -> bool:
        return self.gone.is_set()

    def close(self, _close: Close, _reason: str) -> None:
        self.gone.set()


class Process:
    """What one process may touch, from its start to its end."""

    def __init__(self, world: World) -> None:
        self.world, self.gate = world, asyncio.Event()
        self.gate.set()
        self.log = cast("EventLog", Seen(world, world.log, self.gate, LogUnavailable))
        self.store = cast("Projection", Seen(world, world.projection, self.gate, StoreUnavailable))

    async def router(self, consumer: str) -> None:
        router = Router(as_one(self.world.chain), POLICY, self.world.now, self.world.chance.random)
        await self._work("router", consumer, router)

    async def executor(self, consumer: str) -> None:
        chain = Chain(cast("Rpc", self.world.chain))
        poller = Poller(chain, pause_max_ms=200)
        venues = {"raydium": cast("VenueSwaps", self.world.chain)}
        executor = Executor(WALLET, venues, chain, poller, POLICY, self.world.now, self.world.chance.random)
        try:
            await self._work("executor", consumer, executor)
        finally:
            await poller.aclose()

    async def _work(self, service: str, consumer: str, handler: Router | Executor) -> None:
        many = handler.handle_many if self.world.chance.random() < 0.7 else None
        worker = Worker(
            self.log, service, handler.handle, consumer=consumer, health=Health(), limits=LIMITS, handle_many=many
        )
        await worker.run(asyncio.Event())

    async def projector(self, _consumer: str) -> None:
        await Projector(cast("Any", self.log), self.store, Health("redis", "postgres")).run(asyncio.Event())

    async def notifier(self, consumer: str) -> None:
        """A tail with a socket for each user; a socket that is closed comes back."""
        views = OrderViews(cast("Any", self.log), cast("Any", self.store))
        limits = Limits(close_grace_s=0.1)
        hub = Hub(self.log, views, limits)
        tail = Tail(self.log, hub, limits, name=consumer, reopen=self._reopen)
        async with asyncio.TaskGroup() as group:
            group.create_task(tail.follow(asyncio.Event()))
            for user in USERS:
                group.create_task(self._listen(hub, user, limits))

    async def _reopen(self) -> None:
        await self.log.tip(0)

    async def _listen(self, hub: Hub, user: str, limits: Limits) -> None:
        while True:
            while not hub.open:  # noqa: ASYNC110 - time is free here
                await asyncio.sleep(0.05)
            wire = Wire([])
            self.world.transcripts.append(wire.transcript)
            self.world.live[user] = wire.transcript
            subscriber = Subscriber(user, None, wire, limits)
            await hub.joining.join_or_close(subscriber)
            lasts = self.world.chance.random() * 2 if self.world.rough else None
            with suppress(TimeoutError):
                async with asyncio.timeout(lasts):
                    await wire.gone.wait()
            hub.joining.leave(subscriber)
            await asyncio.sleep(0.001)  # whoever is refused at once, again and again, must not stop the time
