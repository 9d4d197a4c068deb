"""Router and executor against the local chain over HTTP, on the memory log: every order ends, settled at most once."""

import asyncio
import base64
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from solders.keypair import Keypair

from libs.events.log import Snapshot
from libs.events.memory_log import MemoryLog
from libs.events.model import Event, Reason, RouteSelected, Status, TxConfirmed, TxSubmitted
from libs.events.reactions import EXECUTOR, ROUTER, TERMINAL
from libs.events.retry import RetryPolicy
from libs.events.worker import Handle, Worker
from libs.events.worker_limits import WorkerLimits
from libs.quoting.venue import Venue
from libs.service.health import Health
from libs.service.http import open_session
from libs.venues.tokens import TOKENS, to_base_units
from services.executor import settling
from services.executor.chain import Chain
from services.executor.handlers import Executor
from services.executor.poller import Poller
from services.executor.rpc import Rpc
from services.executor.venues import SwapRequest, VenueSwaps
from services.executor.wallet import Wallet
from services.router.handlers import Router
from tests.builders import a_request
from tests.localworld import World, running
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
        return Router(venues, POLICY, now, random.random).handle

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


@pytest.fixture
async def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Market]:
    monkeypatch.setattr(settling, "RESEND_MS", 60)
    async with running(tmp_path, slot_ms=10) as world, AsyncExitStack() as stack:
        market = Market(MemoryLog(4), world, stack)
        try:
            yield market
        finally:
            await market.stop()


@pytest.fixture
async def at_work(market: Market) -> Market:
    await market.start(ROUTER, "router-1")
    await market.start(EXECUTOR, "executor-1")
    return market


@pytest.mark.parametrize("pair", ["SOL/USDC", "USDC/SOL", "SOL/BONK", "JUP/USDC"])
async def test_an_order_is_routed_signed_sent_and_confirmed(at_work: Market, pair: str) -> None:
    order_id = await at_work.order(pair)
    order = (await at_work.ended(order_id)).order
    assert order.status is Status.CONFIRMED
    events = await at_work.events(order_id)
    assert [type(event).__name__ for event in events] == [
        "OrderRequested", "RoutingStarted", "RouteSelected", "TxSubmitted", "TxConfirmed",
    ]  # fmt: skip
    assert order.route
    assert order.amount_out is not None
    assert order.amount_out >= order.route.min_out
    selected = events[2]
    assert isinstance(selected, RouteSelected)
    assert [candidate.venue for candidate in selected.candidates] == list(VENUES)
    await at_work.settled_once([order_id])


async def test_a_venue_out_of_service_does_not_stop_orders(at_work: Market) -> None:
    await at_work.trouble(outages=["raydium"])
    order_id = await at_work.order()
    order = (await at_work.ended(order_id)).order
    assert order.route
    assert order.route.legs[0].venue == "meteora"
    selected = (await at_work.events(order_id))[2]
    assert isinstance(selected, RouteSelected)
    assert selected.candidates[0].why == "HTTP 503"


@pytest.mark.parametrize("pair", ["SOL/USDC", "USDC/SOL", "JUP/BONK"])
async def test_an_order_is_settled_over_a_venue_of_concentrated_liquidity(market: Market, pair: str) -> None:
    market.venues = (*VENUES, "orca")
    await market.start(ROUTER, "router-1")
    await market.start(EXECUTOR, "executor-1")
    await market.trouble(outages=VENUES)
    order_id = await market.order(pair)
    order = (await market.ended(order_id)).order
    assert order.status is Status.CONFIRMED
    assert order.route
    assert order.route.legs[0].venue == "orca"
    assert order.amount_out is not None
    assert order.amount_out >= order.route.min_out
    await market.settled_once([order_id])


async def test_what_can_never_be_routed_fails_at_once(at_work: Market) -> None:
    order = (await at_work.ended(await at_work.order("SOL/USDC", "0.000000001"))).order
    assert order.status is Status.FAILED
    assert order.failure
    assert (order.failure.reason, order.attempt) == (Reason.AMOUNT_TOO_SMALL, 1)


async def test_a_pair_without_a_pool_settles_through_a_token_in_between(at_work: Market) -> None:
    order_id = await at_work.order("RAY/BONK", "1")
    order = (await at_work.ended(order_id)).order
    assert order.status is Status.CONFIRMED
    assert order.route
    assert order.route.legs[0].pool.count("+") == 1
    await at_work.settled_once([order_id])


async def test_an_order_is_settled_over_a_venue_that_knows_no_references(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = SwapRequest.fields
    monkeypatch.setattr(
        SwapRequest, "fields", lambda self: {name: one for name, one in fields(self).items() if name != "reference"}
    )
    await market.start(ROUTER, "router-1")
    await market.start(EXECUTOR, "executor-1")
    order_ids = [await market.order() for _ in range(3)]
    assert {(await market.ended(order_id)).order.status for order_id in order_ids} == {Status.CONFIRMED}
    events = [event for order_id in order_ids for event in await market.events(order_id)]
    sent = [base64.b64decode(event.transaction) for event in events if isinstance(event, TxSubmitted)]
    assert [order_id.encode() in bytes_ for order_id, bytes_ in zip(order_ids, sent, strict=True)] == [True] * 3
    assert len({event.signature for event in events if isinstance(event, TxConfirmed)}) == 3


async def test_a_revert_is_routed_anew_and_a_drop_is_sent_again(at_work: Market) -> None:
    await at_work.trouble(revert_next=1, drop_next=2)
    order_id = await at_work.order()
    assert (await at_work.ended(order_id)).order.attempt == 2
    intents = [event for event in await at_work.events(order_id) if isinstance(event, TxSubmitted)]
    assert len({intent.signature for intent in intents}) == 2
    await at_work.settled_once([order_id])


async def test_a_blockhash_that_expires_unseen_is_proven_before_another_is_signed(at_work: Market) -> None:
    await at_work.trouble(drop_rate=1)
    order_id = await at_work.order()

    async def submitted() -> Any:
        held = await at_work.log.find(order_id)
        return bool(held and held.order.status is Status.SUBMITTED)

    await eventually(submitted)
    await at_work.trouble(drop_rate=0, drop_next=0, expire_blockhashes=True)
    order = (await at_work.ended(order_id)).order
    assert order.status is Status.CONFIRMED
    await at_work.settled_once([order_id])


async def test_an_executor_that_dies_with_transactions_in_flight_leaves_them_to_another(market: Market) -> None:
    await market.start(ROUTER, "router-1")
    first = await market.start(EXECUTOR, "executor-1")
    await market.trouble(outages=["rpc"])
    order_ids = [await market.order() for _ in range(20)]

    async def all_submitted() -> Any:
        held = [await market.log.find(order_id) for order_id in order_ids]
        return all(one and one.order.status is Status.SUBMITTED for one in held)

    await eventually(all_submitted)
    first.cancel()
    await market.trouble(outages=[])
    await market.start(EXECUTOR, "executor-2")
    for order_id in order_ids:
        assert (await market.ended(order_id)).order.status is Status.CONFIRMED
    await market.settled_once(order_ids)


async def test_many_orders_on_a_bad_day_with_two_workers_each_settle_once(at_work: Market) -> None:
    await at_work.start(ROUTER, "router-2")
    await at_work.start(EXECUTOR, "executor-2")
    await at_work.trouble(drop_rate=0.3, revert_rate=0.2, slippage_rate=0.1)
    pairs = ["SOL/USDC", "USDC/SOL", "SOL/BONK"]
    order_ids = [await at_work.order(pairs[n % 3], "0.1", f"user-{n % 7}") for n in range(60)]
    for order_id in order_ids:
        assert (await at_work.ended(order_id)).order.status is Status.CONFIRMED
    await at_work.settled_once(order_ids)
