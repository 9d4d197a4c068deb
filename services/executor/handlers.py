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
from services.executor.venues import BuildFailed, SwapRequest, VenueSwaps
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
        match event.data:
            case RouteSelected() as selected:
                return [await self._intend(order, selected)]
            case TxSubmitted() as sent:
                return await self._settle(order, sent)
            case _:
                raise TypeError(f"{event.type} is not for the executor")

    async def _intend(self, order: Order, selected: RouteSelected) -> Event:
        """Build, check and sign. Nothing is sent: the intent must be in the log first."""
        if self.now() >= order.expires_at:
            expired = OrderExpired(expires_at=order.expires_at)
            observe.order_expired(order, expired)
            return expired
        leg = selected.route.legs[0]
        venue = self.venues.get(leg.venue)
        if venue is None:
            return self._failed(order, Reason.VENUES_UNAVAILABLE, f"{leg.venue} is not among the configured venues")
        try:
            with crossing("venue.build"):
                built = await venue.build(SwapRequest(leg.quote, selected.route.min_out, self.wallet.address, order.id))
            signed = self.wallet.sign(built.transaction)
        except BuildFailed as failure:
            return self._failed(order, failure.reason, f"{leg.venue}: {failure}")
        except UnacceptableTransaction as refusal:
            return self._failed(order, Reason.VENUE_REFUSED, f"{leg.venue}: not signed: {refusal}")
        intent = TxSubmitted(
            attempt=selected.attempt,
            signature=signed.signature,
            transaction=signed.transaction,
            last_valid_block_height=built.last_valid_block_height,
        )
        observe.transaction_signed(order, intent, leg.venue)
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
