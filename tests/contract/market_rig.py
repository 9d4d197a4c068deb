"""Workers of router and executor between the memory log and a local chain over HTTP, each of which may be killed."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import ClientSession
from solders.keypair import Keypair

from libs.events.alone import Handle
from libs.events.log import Snapshot
from libs.events.memory_log import MemoryLog
from libs.events.model import Event, TxConfirmed
from libs.events.reactions import ROUTER, TERMINAL
from libs.events.retry import RetryPolicy
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.quoting.venue import Venue
from libs.quoting.venues import Venues
from libs.service.health import Health
from libs.service.http import open_session
from libs.venues.tokens import TOKENS, to_base_units
from services.executor.chain import Chain
from services.executor.handlers import Executor
from services.executor.poller import Poller
from services.executor.rpc import Rpc
from services.executor.venues import VenueSwaps
from services.executor.wallet import Wallet
from services.router.handlers import Router
from tests.builders import a_request
from tests.localworld import World
from tests.waiting import eventually

VENUES = ("raydium", "meteora")
POLICY = RetryPolicy(attempts_max=12, base_ms=1, cap_ms=10)
LIMITS = WorkerLimits(block_ms=20, timers_every_s=0.01, claim_every_s=0.05, claim_idle_ms=200, renew_every_s=0.05)
WALLET_SECRET = str(Keypair())


def now() -> datetime:
    return datetime.now(UTC)


class Market:
    """Workers between a log and a local chain. Each worker may be killed."""

    def __init__(self, log: MemoryLog, world: World, stack: AsyncExitStack) -> None:
        self.log, self.world, self._stack = log, world, stack
        self.venues: Sequence[str] = VENUES
        self._workers: list[asyncio.Task[None]] = []

    async def start(self, service: str, consumer: str) -> asyncio.Task[None]:
        session = await self._stack.enter_async_context(open_session())
        handle = await (self._router(session) if service == ROUTER else self._executor(session))
        worker = Worker(self.log, service, handle, consumer=consumer, health=Health(), limits=LIMITS)
        task = asyncio.create_task(worker.run(asyncio.Event()))
        self._workers.append(task)
        return task

    async def stop(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _router(self, session: ClientSession) -> Handle:
        venues = [Venue(name, f"{self.world.base}/venues/{name}", session, 10_000) for name in self.venues]
        for venue in venues:
            await self._stack.enter_async_context(aclosing(venue))
        return Router(Venues(venues, 10), POLICY, now, random.random).handle

    async def _executor(self, session: ClientSession) -> Handle:
        rpc = await self._stack.enter_async_context(aclosing(Rpc(session, self.world.base)))
        chain = Chain(rpc)
        poller = await self._stack.enter_async_context(aclosing(Poller(chain, 20)))
        venues = {name: VenueSwaps(f"{self.world.base}/venues/{name}", session) for name in self.venues}
        for venue in venues.values():
            await self._stack.enter_async_context(aclosing(venue))
        return Executor(Wallet(WALLET_SECRET), venues, chain, poller, POLICY, now, random.random).handle

    async def order(self, pair: str = "SOL/USDC", amount: str = "1", user: str = "user-1") -> str:
        token_in, token_out = (TOKENS[symbol] for symbol in pair.split("/"))
        step, _ = a_request(
            self.log.partitions,
            user,
            token_in=token_in.symbol,
            token_out=token_out.symbol,
            mint_in=token_in.mint,
            mint_out=token_out.mint,
            amount_in=to_base_units(amount, token_in),
            expires_at=now() + timedelta(minutes=10),
        )
        await self.log.commit(step)
        return step.order_id

    async def ended(self, order_id: str) -> Snapshot:
        async def end() -> Any:
            held = await self.log.find(order_id)
            return held if held and held.order.status in TERMINAL else None

        held: Snapshot = await eventually(end, what=f"order {order_id} ends", within_s=240)
        return held

    async def events(self, order_id: str) -> list[Event]:
        return [entry.decode().data for entry in await self.log.history(order_id)]

    async def trouble(self, **fields: object) -> None:
        status, _ = await self.world.body("PUT", "/admin/trouble", json=fields)
        assert status == 200

    async def settled_once(self, order_ids: Sequence[str]) -> None:
        for order_id in order_ids:
            _, found = await self.world.body("GET", "/admin/settled", params={"reference": order_id})
            settled = [item for item in found if item["err"] is None]
            (confirmed,) = [event for event in await self.events(order_id) if isinstance(event, TxConfirmed)]
            assert [(item["signature"], item["slot"]) for item in settled] == [(confirmed.signature, confirmed.slot)]
