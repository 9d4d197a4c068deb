"""An executor in front of a fake chain, and orders at the steps it acts on."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest
from solders.keypair import Keypair

from libs.events.log import Snapshot
from libs.events.model import Event, RouteSelected, RoutingStarted, TxSubmitted
from libs.events.retry import RetryPolicy
from libs.service.health import serve
from libs.service.http import open_session
from services.executor import settling
from services.executor.chain import Chain
from services.executor.handlers import Executor
from services.executor.poller import Poller
from services.executor.rpc import Rpc
from services.executor.venues import VenueSwaps
from services.executor.wallet import Wallet
from tests.builders import NOW, USDC, a_request, route_selected, then
from tests.contract.fake_chain import FakeChain

KEY = Keypair()
WALLET = Wallet(str(KEY))
POLICY = RetryPolicy(attempts_max=3, base_ms=100, cap_ms=1_000)
POLL_MS = 20


@dataclass(frozen=True)
class Rig:
    """An executor in front of a fake chain that is its venue too."""

    fake: FakeChain
    rpc: Rpc
    chain: Chain
    poller: Poller
    executor: Executor

    async def handle(self, now: Snapshot) -> Sequence[Event]:
        return await self.executor.handle(now.order, now.event)

    async def settled(self, now: Snapshot) -> Event:
        """As the runtime does: no events means, ask again."""
        while not (events := await self.handle(now)):
            pass
        (event,) = events
        return event


@asynccontextmanager
async def running_rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """With pauses short enough for tests."""
    monkeypatch.setattr(settling, "RESEND_MS", 60)
    monkeypatch.setattr(settling, "UNSENT_PAUSE_MS", 10)
    fake = FakeChain(mint_out=USDC)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serve(fake.app(), "127.0.0.1", 0, drain_s=0))
        session = await stack.enter_async_context(open_session())
        rpc = await stack.enter_async_context(aclosing(Rpc(session, f"http://127.0.0.1:{port}")))
        chain = Chain(rpc)
        poller = await stack.enter_async_context(aclosing(Poller(chain, POLL_MS)))
        venue = await stack.enter_async_context(aclosing(VenueSwaps(f"http://127.0.0.1:{port}/venue", session)))
        executor = Executor(WALLET, {"raydium": venue}, chain, poller, POLICY, lambda: NOW, lambda: 0.5)
        yield Rig(fake, rpc, chain, poller, executor)


def selected(attempt: int = 1, **changes: object) -> Snapshot:
    _, now = a_request(4)
    _, now = then(now, RoutingStarted(attempt=attempt), route_selected(attempt))
    return Snapshot(now.order.model_copy(update=changes), now.event)


def selected_at(*venues: str) -> Snapshot:
    """An order whose route is over these venues."""
    now = selected()
    assert isinstance(now.event.data, RouteSelected)
    route = now.event.data.route
    legs = tuple(route.legs[0].model_copy(update={"venue": venue}) for venue in venues)
    there = route.model_copy(update={"legs": legs, "quoted_out": sum(leg.amount_out for leg in legs)})
    return Snapshot(
        now.order, now.event.model_copy(update={"data": now.event.data.model_copy(update={"route": there})})
    )


async def submitted(rig: Rig, now: Snapshot | None = None) -> Snapshot:
    now = now or selected()
    _, after = then(now, *await rig.handle(now))
    assert isinstance(after.event.data, TxSubmitted)
    return after


def intent(now: Snapshot) -> TxSubmitted:
    assert isinstance(now.event.data, TxSubmitted)
    return now.event.data
