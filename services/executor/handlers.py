"""What the executor does about each event: sign an intent, then send it until the chain has settled it.

Signing again is left to a new attempt, and only evidence (`domain.conclude`) starts one.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from libs.events.crash import crossing
from libs.events.model import Envelope, Event, OrderExpired, Reason, RouteSelected, TxConfirmed, TxSubmitted
from libs.events.order import Order
from libs.events.retry import RetryPolicy, after_failure
from services.executor import observe
from services.executor.chain import Chain, Poller
from services.executor.domain import (
    Confirmed,
    Evidence,
    Expired,
    FailedOnChain,
    Look,
    StillPending,
    against_quote_ppm,
    amount_received,
    conclude,
    past,
)
from services.executor.rpc import ChainUnavailable, RpcRefused
from services.executor.venues import BuildFailed, Built, SwapRequest, VenueSwaps
from services.executor.wallet import UnacceptableTransaction, Wallet, blockhash_of

RESEND_MS = 2_000  # the same bytes again while pending: nodes drop what they cannot place
UNSENT_PAUSE_MS = 250  # until the next try when the node did not take them

# One call of the handler is bounded; it then says "nothing yet" and is called again. Both, with the deadlines of the
# calls begun within them, stay below the runtime's limit per call (30 s).
SETTLE_SECONDS_MAX = 10
AMOUNT_SECONDS_MAX = 5
AMOUNT_PAUSE_MS = 50


class AmountUnknown(Exception):
    """The order is settled, but the node does not show what came out: an operator must look."""


@dataclass(frozen=True, slots=True)
class Executor:
    """`now` is UTC; `fraction` is random in [0, 1), for the jitter of retries."""

    wallet: Wallet
    venues: Mapping[str, VenueSwaps]
    chain: Chain
    poller: Poller
    policy: RetryPolicy
    now: Callable[[], datetime]
    fraction: Callable[[], float]

    async def handle(self, order: Order, event: Envelope) -> Sequence[Event]:
        """What happened next; nothing while the chain has not decided.

        Raises:
            AmountUnknown: settled, but what came out does not show.
        """
        (events,) = await self.handle_many([(order, event)])
        return events

    async def handle_many(self, pairs: Sequence[tuple[Order, Envelope]]) -> list[Sequence[Event]]:
        """`handle` for each; what is to be built is asked for at once."""
        found: dict[str, Sequence[Event]] = {}
        wanted: list[tuple[Order, RouteSelected]] = []
        for order, event in pairs:
            match event.data:
                case RouteSelected() as selected:
                    if early := self._not_built(order, selected):
                        found[order.id] = [early]
                    else:
                        wanted.append((order, selected))
                case TxSubmitted() as sent:
                    found[order.id] = await self._settle(order, sent)
                case _:
                    raise TypeError(f"{event.type} is not for the executor")
        if wanted:
            found |= await self._intend(wanted)
        return [found[order.id] for order, _ in pairs]

    def _not_built(self, order: Order, selected: RouteSelected) -> Event | None:
        if self.now() >= order.expires_at:
            expired = OrderExpired(expires_at=order.expires_at)
            observe.order_expired(order, expired)
            return expired
        name = selected.route.legs[0].venue
        if name not in self.venues:
            return self._failed(order, Reason.VENUES_UNAVAILABLE, f"{name} is not among the configured venues")
        return None

    async def _intend(self, wanted: Sequence[tuple[Order, RouteSelected]]) -> dict[str, Sequence[Event]]:
        """Build, check and sign. Nothing is sent: the intents must be in the log first."""
        by_venue: dict[str, list[tuple[Order, RouteSelected]]] = {}
        for order, selected in wanted:
            by_venue.setdefault(selected.route.legs[0].venue, []).append((order, selected))
        with crossing("venue.build"):
            built = await asyncio.gather(*(self._build(name, group) for name, group in by_venue.items()))
        return {
            order.id: [self._signed(order, selected, outcome)]
            for group, outcomes in zip(by_venue.values(), built, strict=True)
            for (order, selected), outcome in zip(group, outcomes, strict=True)
        }

    async def _build(self, venue: str, group: Sequence[tuple[Order, RouteSelected]]) -> list[Built | BuildFailed]:
        requests = [
            SwapRequest(selected.route.legs[0].quote, selected.route.min_out, self.wallet.address, order.id)
            for order, selected in group
        ]
        return await self.venues[venue].build_many(requests)

    def _signed(self, order: Order, selected: RouteSelected, built: Built | BuildFailed) -> Event:
        venue = selected.route.legs[0].venue
        if isinstance(built, BuildFailed):
            return self._failed(order, built.reason, f"{venue}: {built}")
        try:
            signed = self.wallet.sign(built.transaction)
        except UnacceptableTransaction as refusal:
            return self._failed(order, Reason.VENUE_REFUSED, f"{venue}: not signed: {refusal}")
        intent = TxSubmitted(
            attempt=selected.attempt,
            signature=signed.signature,
            transaction=signed.transaction,
            last_valid_block_height=built.last_valid_block_height,
        )
        observe.transaction_signed(order, intent, venue)
        return intent

    async def _settle(self, order: Order, sent: TxSubmitted) -> Sequence[Event]:
        """Send and look until there is evidence, with the bytes of the event: whoever signed them may be gone."""
        loop = asyncio.get_running_loop()
        deadline, sends = loop.time() + SETTLE_SECONDS_MAX, 0
        while loop.time() < deadline:
            taken = await self._send(order, sent, again=sends > 0)
            sends += 1
            match await self._evidence(sent, RESEND_MS if taken else UNSENT_PAUSE_MS):
                case Confirmed(slot=slot):
                    return await self._confirmed(order, sent, slot)
                case FailedOnChain(reason=reason, detail=detail):
                    return [self._failed(order, reason, detail)]
                case Expired(block_height=height):
                    limit = sent.last_valid_block_height
                    why = f"not on the chain at block height {height}; it was valid until {limit}"
                    return [self._failed(order, Reason.TRANSACTION_EXPIRED, why)]
                case StillPending():
                    pass
        return []

    async def _send(self, order: Order, sent: TxSubmitted, *, again: bool) -> bool:
        try:
            with crossing("chain.send"):
                await self.chain.send(sent.transaction)
        except RpcRefused as refusal:
            observe.send_trouble(order, sent, "refused", str(refusal), again=again)
            return False
        except ChainUnavailable as trouble:
            observe.send_trouble(order, sent, "unavailable", str(trouble), again=again)
            return False
        observe.transaction_sent(order, sent, again=again)
        return True

    async def _evidence(self, sent: TxSubmitted, for_ms: int) -> Evidence:
        with crossing("chain.look"):
            seen = await self.poller.watch(sent.signature, for_ms)
        if seen:
            return conclude(seen, None, sent.last_valid_block_height)
        try:
            with crossing("chain.view"):
                view = await self.chain.view(blockhash_of(sent.transaction))
            if not past(view, sent.last_valid_block_height):
                return StillPending()
            # The order matters: a look from before the height was seen could miss the last valid block.
            with crossing("chain.last_look"):
                look: Look = (await self.chain.look([sent.signature], history=True))[0]
        except ChainUnavailable:
            return StillPending()
        return conclude(look, view, sent.last_valid_block_height)

    async def _confirmed(self, order: Order, sent: TxSubmitted, slot: int) -> Sequence[Event]:
        assert order.route, "an order with a transaction has a route"
        try:
            with crossing("chain.balances"):
                amount_out = await self._amount_out(order, sent.signature)
        except ChainUnavailable:
            return []
        event = TxConfirmed(
            attempt=sent.attempt,
            signature=sent.signature,
            slot=slot,
            amount_out=amount_out,
            quoted_out=order.route.quoted_out,
            against_quote_ppm=against_quote_ppm(amount_out, order.route.quoted_out),
        )
        observe.transaction_confirmed(order, event)
        return [event]

    async def _amount_out(self, order: Order, signature: str) -> int:
        """A node may know a signature's status a moment before it shows the transaction."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + AMOUNT_SECONDS_MAX
        while (meta := await self.chain.balances(signature)) is None:
            if loop.time() >= deadline:
                raise AmountUnknown(f"{signature} is confirmed, but the node does not show the transaction")
            await asyncio.sleep(AMOUNT_PAUSE_MS / 1000)
        amount = amount_received(meta, self.wallet.address, order.mint_out)
        if amount is None or amount < 0:
            raise AmountUnknown(f"{signature} is confirmed, but its balances show no {order.token_out} for the wallet")
        return amount

    def _failed(self, order: Order, reason: Reason, detail: str) -> Event:
        event = after_failure(
            order, "execution", reason, detail, now=self.now(), fraction=self.fraction(), policy=self.policy
        )
        observe.attempt_failed(order, event)
        return event
