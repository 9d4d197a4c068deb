"""Orders as the system makes them: decided by the real router and executor, about venues that answer at once."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import aiohttp

from libs.events.commands import follow, request
from libs.events.ids import START, Position, new_order_id, partition_of, partition_of_user
from libs.events.log import Entry, Snapshot, Step
from libs.events.model import OrderRequested
from libs.events.reactions import EXECUTOR, ROUTER, next_actor
from libs.events.retry import RetryPolicy
from libs.events.together import HandleMany
from libs.quoting.venue import Venue
from libs.quoting.venues import Venues
from libs.venues.tokens import TOKENS, to_base_units
from services.executor.chain import Chain
from services.executor.handlers import Executor
from services.executor.poller import Poller
from services.executor.rpc import Rpc
from services.executor.venues import VenueSwaps
from services.executor.wallet import Wallet
from services.router.handlers import Router
from tests.bench.instant import RPC_URL, VENUE_URLS, InstantWorld
from tests.bench.users import TRADES
from tests.wallet import Wallet as Keys

PARTITIONS = 4
USERS = 32
WAVE = 64
LIFETIME = timedelta(days=3650)
POLICY = RetryPolicy(5, 500, 30_000)
EVENTS_PER_ORDER = 5

Wave = list[tuple[Step, Snapshot]]


class Makers:
    """The real handlers of both workers."""

    def __init__(self, router: Router, executor: Executor, world: InstantWorld) -> None:
        self.router, self.executor, self.world = router, executor, world

    async def waves(self, orders: int, users: int = USERS) -> AsyncIterator[list[Wave]]:
        """The orders' steps, `WAVE` orders at a time: requested, routed, submitted, confirmed."""
        for first in range(0, orders, WAVE):
            requested = [requested_order(number, users) for number in range(first, min(orders, first + WAVE))]
            routed = await self.routed(requested)
            ready = [made for wave in routed for made in wave if next_actor(made[1].event.data) == EXECUTOR]
            submitted = await then(ready, EXECUTOR, self.executor.handle_many)
            yield [requested, *routed, submitted, await then(submitted, EXECUTOR, self.executor.handle_many)]

    async def routed(self, before: Wave) -> list[Wave]:
        """What the router makes of them: one write, or two for those whose quotes take their time."""
        waves: list[Wave] = []
        while before:
            waves.append(await then(before, ROUTER, self.router.handle_many))
            before = [made for made in waves[-1] if next_actor(made[1].event.data) == ROUTER]
        return waves


@asynccontextmanager
async def makers() -> AsyncIterator[Makers]:
    """Composed as the services compose them."""
    keys = Keys()
    wallet, world = Wallet(str(keys.keypair)), InstantWorld(keys.address)
    session = cast("aiohttp.ClientSession", world)
    async with AsyncExitStack() as stack:
        venues = [Venue(name, url, session, 1_500) for name, url in VENUE_URLS.items()]
        swaps = {name: VenueSwaps(url, session) for name, url in VENUE_URLS.items()}
        rpc = Rpc(session, RPC_URL)
        chain = Chain(rpc)
        poller = Poller(chain, 50)
        for closing in (*venues, *swaps.values(), rpc, poller):
            await stack.enter_async_context(aclosing(cast("Any", closing)))
        yield Makers(
            Router(Venues(venues, 10), POLICY, _utc_now, lambda: 0.5),
            Executor(wallet, swaps, chain, poller, POLICY, _utc_now, lambda: 0.5),
            world,
        )


def requested_order(number: int, users: int = USERS) -> tuple[Step, Snapshot]:
    """What the gateway writes for one order: users in turn, each with every trade in turn."""
    return order_of(f"bench-{number % users}", number // users)


def order_of(user: str, turn: int) -> tuple[Step, Snapshot]:
    """What the gateway writes for one order of this user."""
    now = _utc_now()
    sold, bought, amount = TRADES[turn % len(TRADES)]
    token_in, token_out = TOKENS[sold], TOKENS[bought]
    body = OrderRequested(
        token_in=sold,
        token_out=bought,
        mint_in=token_in.mint,
        mint_out=token_out.mint,
        amount_in=to_base_units(str(amount), token_in),
        slippage_bps=50,
        expires_at=now + LIFETIME,
        request_id=f"bench-{turn}",
    )
    return request(
        body,
        order_id=new_order_id(partition_of_user(user, PARTITIONS)),
        user=user,
        source="gateway",
        now=now,
        traceparent=f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01",
    )


async def then(before: Wave, source: str, handle_many: HandleMany) -> Wave:
    """What a service makes of them next."""
    snapshots = [snapshot for _, snapshot in before]
    decided = await handle_many([(snapshot.order, snapshot.event) for snapshot in snapshots])
    made: Wave = []
    for snapshot, bodies in zip(snapshots, decided, strict=True):
        assert not isinstance(bodies, Exception)
        made.append(follow(snapshot, bodies, source=source, now=_utc_now()))
    return made


class Ledger:
    """Gives steps the places the log would give them."""

    def __init__(self) -> None:
        self.at: dict[int, Position] = dict.fromkeys(range(PARTITIONS), START)

    def entries(self, steps: Sequence[Step]) -> list[Entry]:
        """Entries in the order of the log."""
        ms = int(_utc_now().timestamp() * 1_000)
        found: list[Entry] = []
        for step in steps:
            partition = partition_of(step.order_id)
            for event in step.events:
                at = self.at[partition] = Position(max(ms, self.at[partition].ms), self.at[partition].position + 1)
                found.append(Entry(partition, at, event.fields()))
        return found


def steps_of(waves: Sequence[Wave]) -> list[Step]:
    return [step for wave in waves for step, _ in wave]


def _utc_now() -> datetime:
    return datetime.now(UTC)
