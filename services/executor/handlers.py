"""What the executor does about each event: sign an intent, then see it settled.

The intent is in the log before anything is sent; signing again is left to a new attempt.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from libs.events.crash import crossing
from libs.events.envelope import Envelope
from libs.events.model import Event, OrderExpired, Reason, RouteSelected, TxSubmitted
from libs.events.order import Order
from libs.events.retry import RetryPolicy
from libs.events.trusted import trusted
from services.executor import observe
from services.executor.chain import Chain
from services.executor.domain import believable
from services.executor.failing import Failing
from services.executor.heights import Heights
from services.executor.history import HistoryMissing
from services.executor.joining import least_of_legs
from services.executor.poller import Poller
from services.executor.rpc import ChainUnavailable
from services.executor.settling import Settling
from services.executor.venues import BUILD_SECONDS_MAX, BuildFailed, BuildLate, Built, SwapRequest, VenueSwaps
from services.executor.wallet import UnacceptableTransaction, Wallet

# So long those over one venue wait for another's, as for its quotes; what a slower one builds is asked for by itself.
TOGETHER_S = 1.5


class Executor:
    """The handler of the executor's items."""

    def __init__(
        self,
        wallet: Wallet,
        venues: Mapping[str, VenueSwaps],
        chain: Chain,
        poller: Poller,
        policy: RetryPolicy,
        now: Callable[[], datetime],
        fraction: Callable[[], float],
    ) -> None:
        """`now` is UTC; `fraction` is random in [0, 1), for the jitter of retries."""
        self._wallet, self._venues, self._heights, self._now = wallet, venues, Heights(chain), now
        self._failing = Failing(policy, now, fraction)
        self._settling = Settling(wallet, chain, poller, self._failing)

    async def handle(self, order: Order, event: Envelope) -> Sequence[Event]:
        """What happened next; nothing while the chain has not decided.

        Raises:
            AmountUnknown: settled, but what came out does not show.
        """
        if isinstance(event.data, TxSubmitted):
            return await self._settling.settle(order, event.data)
        (events,) = await self.handle_many([(order, event)])
        return events

    async def handle_many(self, pairs: Sequence[tuple[Order, Envelope]]) -> list[Sequence[Event]]:
        """The next step of each, as far as one question to each venue and to the chain shows it."""
        found: dict[str, Sequence[Event]] = {}
        wanted: list[tuple[Order, RouteSelected]] = []
        pending: list[tuple[Order, TxSubmitted]] = []
        for order, event in pairs:
            match event.data:
                case RouteSelected() as selected:
                    if early := self._not_built(order, selected):
                        found[order.id] = [early]
                    else:
                        wanted.append((order, selected))
                case TxSubmitted() as sent:
                    pending.append((order, sent))
                case _:
                    raise TypeError(f"{event.type} is not for the executor")
        if wanted:
            found |= await self._intend(wanted)
        if pending:
            outcomes = await self._settling.at_once(pending)
            found |= {order.id: outcome for (order, _), outcome in zip(pending, outcomes, strict=True)}
        return [found[order.id] for order, _ in pairs]

    def _not_built(self, order: Order, selected: RouteSelected) -> Event | None:
        if expired := self._expired(order):
            return expired
        for leg in selected.route.legs:
            if leg.venue not in self._venues:
                why = f"{leg.venue} is not among the configured venues"
                return self._failing.event(order, Reason.VENUES_UNAVAILABLE, why)
        return None

    def _expired(self, order: Order) -> Event | None:
        if self._now() < order.expires_at:
            return None
        expired = OrderExpired(expires_at=order.expires_at)
        observe.order_expired(order, expired)
        return expired

    async def _intend(self, wanted: Sequence[tuple[Order, RouteSelected]]) -> dict[str, Sequence[Event]]:
        """Build, check and sign. Nothing is sent: the intents must be in the log first."""
        by_venue: dict[str, list[SwapRequest]] = {}
        for order, selected in wanted:
            route = selected.route
            for leg, least in zip(route.legs, least_of_legs(route), strict=True):
                request = SwapRequest(leg.quote, leg.amount_out, least, self._wallet.address, order.id)
                by_venue.setdefault(leg.venue, []).append(request)
        alone = len(by_venue) == 1 or len(wanted) == 1
        within_s = BUILD_SECONDS_MAX if alone else TOGETHER_S
        with crossing("venue.build"):
            built = await asyncio.gather(*(
                self._venues[name].build_many(requests, within_s) for name, requests in by_venue.items()
            ))  # fmt: skip
        told = [outcome.last_valid_block_height for each in built for outcome in each if isinstance(outcome, Built)]
        # One after the other: both are known already, as a rule, and tasks for them would cost each order more.
        height = await self._heights.beside(told) if told else None
        genesis = await self._genesis() if told else None
        answers = {name: iter(outcomes) for name, outcomes in zip(by_venue, built, strict=True)}
        intents: dict[str, Sequence[Event]] = {}
        for order, selected in wanted:
            legs = [(leg.venue, next(answers[leg.venue])) for leg in selected.route.legs]
            late = not alone and any(isinstance(leg, BuildLate) for _, leg in legs)
            intents[order.id] = [] if late else [self._signed(order, selected, legs, height, genesis)]
        return intents

    async def _genesis(self) -> str | None:
        with suppress(ChainUnavailable, HistoryMissing):
            return await self._settling.chain.genesis()
        return None

    def _signed(
        self,
        order: Order,
        selected: RouteSelected,
        legs: Sequence[tuple[str, Built | BuildFailed]],
        height: int | None,
        genesis: str | None,
    ) -> Event:
        # Again: a venue may have taken seconds to build.
        if expired := self._expired(order):
            return expired
        built: list[Built] = []
        for venue, leg in legs:
            if isinstance(leg, BuildFailed):
                return self._failing.event(order, leg.reason, f"{venue}: {leg}")
            if height is not None and not believable(leg.last_valid_block_height, height):
                why = f"it is said to be valid until height {leg.last_valid_block_height}, and the chain is at {height}"
                return self._failing.event(order, Reason.VENUE_REFUSED, f"{venue}: not signed: {why}")
            built.append(leg)
        venue = "+".join(venue for venue, _ in legs)
        try:
            signed = self._wallet.sign_all([leg.transaction for leg in built], order.id)
        except UnacceptableTransaction as refusal:
            return self._failing.event(order, Reason.VENUE_REFUSED, f"{venue}: not signed: {refusal}")
        intent = trusted(
            TxSubmitted,
            {
                "attempt": selected.attempt,
                "signature": signed.signature,
                "transaction": signed.transaction,
                "last_valid_block_height": built[0].last_valid_block_height,
                "genesis": genesis,
            },
        )
        observe.transaction_signed(order, intent, venue)
        return intent
