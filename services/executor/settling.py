"""A sent transaction's way to its end: send its bytes and look until the chain has settled it, or provably never will.

Signing again is left to a new attempt, and only evidence (`domain.conclude`) starts one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from libs.events.crash import crossing
from libs.events.model import U64_MAX, Event, Reason, TxConfirmed, TxSubmitted
from libs.events.order import Order
from services.executor import observe
from services.executor.chain import Chain, Sent
from services.executor.domain import (
    ChainView,
    Confirmed,
    Evidence,
    Expired,
    FailedOnChain,
    Look,
    StillPending,
    against_quote_ppm,
    amount_received,
    conclude,
    needs_blocks_from,
    past,
)
from services.executor.failing import Failing
from services.executor.outage import Outage
from services.executor.poller import Poller
from services.executor.rpc import ChainUnavailable, RpcRefused
from services.executor.wallet import Wallet, blockhash_of, payer_of

RESEND_MS = 2_000  # the same bytes again while pending: nodes drop what they cannot place
# Signed so long ago, it has landed or never will: that is asked soon. Who takes over from a process that died has many
# of these, and must not wait for each.
OLD_AFTER = timedelta(seconds=10)
OLD_LOOK_MS = 100
UNSENT_PAUSE_MS = 250  # until the next try when the node did not take them

# One call of the handler is bounded; it then says "nothing yet" and is called again. Both, with the deadlines of the
# calls begun within them, stay below the runtime's limit per call (30 s).
SETTLE_SECONDS_MAX = 6
AMOUNT_SECONDS_MAX = 5
DECIDED_WITHIN = timedelta(minutes=3)  # twice as long as a chain takes; a node that stands still says nothing of it
SHOWN_WITHIN = timedelta(minutes=10)  # after that it is for an operator; some nodes show transactions minutes late
# Until it is asked again: a node tells nobody when it has it. Twice as long each time.
AMOUNT_PAUSE_MS, AMOUNT_PAUSE_MAX_MS = 50, 1_000

Pending = tuple[Order, TxSubmitted]


class AmountUnknown(Exception):
    """The order is settled, but the node does not show what came out: an operator must look."""


@dataclass(frozen=True, slots=True)
class Settling:
    """Whoever signed may be gone: what is sent are the bytes of the event."""

    wallet: Wallet
    chain: Chain
    poller: Poller
    failing: Failing
    _just_sent: set[str] = field(default_factory=set)
    _sending: Outage = field(default_factory=partial(Outage, "sent"))
    _looking: Outage = field(default_factory=partial(Outage, "looked up"))
    _undecided: set[str] = field(default_factory=set)  # for long, and told of: others that are decided end nothing
    _showing: Outage = field(default_factory=partial(Outage, "shown"))

    async def at_once(self, pending: Sequence[Pending]) -> list[Sequence[Event]]:
        """Send and look once, all in one go; nothing for those the chain has not decided by then."""
        with crossing("chain.send"):
            sent = await self.chain.send_and_look([(tx.transaction, tx.signature) for _, tx in pending])
        found: list[Evidence] = []
        metas: dict[str, dict[str, Any]] = {}
        for (order, tx), one in zip(pending, sent, strict=True):
            self._told(order, tx, one.taken, again=False)
            if one.taken is True:
                self._just_sent.add(tx.signature)
            if one.meta:
                metas[tx.signature] = one.meta
            found.append(conclude(one.look, None, tx.last_valid_block_height) if one.look else StillPending())
        await self._fill(metas, pending, found)
        return self._outcomes(pending, found, metas)

    def _outcomes(
        self, pending: Sequence[Pending], found: Sequence[Evidence], metas: Mapping[str, dict[str, Any]]
    ) -> list[Sequence[Event]]:
        outcomes: list[Sequence[Event]] = []
        for (order, tx), proof in zip(pending, found, strict=True):
            match proof:
                case Confirmed(slot=slot):
                    outcomes.append(self._as_shown(order, tx, slot, metas.get(tx.signature)))
                case FailedOnChain(reason=reason, detail=detail):
                    outcomes.append([self.failing.event(order, reason, detail)])
                case _:
                    outcomes.append([])
            if outcomes[-1]:
                self._just_sent.discard(tx.signature)
        return outcomes

    def _as_shown(self, order: Order, tx: TxSubmitted, slot: int, meta: dict[str, Any] | None) -> Sequence[Event]:
        """Nothing if the amount does not show: it is the trouble of this one, and told when it is asked for alone."""
        try:
            return [self._confirmed(order, tx, slot, meta)] if meta else []
        except AmountUnknown:
            return []

    async def _fill(
        self, metas: dict[str, dict[str, Any]], pending: Sequence[Pending], found: Sequence[Evidence]
    ) -> None:
        """Ask for the balances of what is confirmed and was not shown yet."""
        proofs = zip(pending, found, strict=True)
        confirmed = [tx.signature for (_, tx), proof in proofs if isinstance(proof, Confirmed)]
        if missing := [signature for signature in confirmed if signature not in metas]:
            with crossing("chain.balances"):
                shown = await self.chain.balances_many(missing)
            metas |= {signature: meta for signature, meta in zip(missing, shown, strict=True) if meta}

    async def settle(self, order: Order, sent: TxSubmitted) -> Sequence[Event]:
        """Send and look until there is evidence; nothing when there is none for long."""
        loop = asyncio.get_running_loop()
        deadline, sends = loop.time() + SETTLE_SECONDS_MAX, 0
        while loop.time() < deadline:
            taken = await self._send(order, sent, again=sends > 0)
            sends += 1
            old = sends == 1 and self.failing.now() - order.updated_at > OLD_AFTER
            for_ms = UNSENT_PAUSE_MS if not taken else OLD_LOOK_MS if old else RESEND_MS
            match await self._evidence(order, sent, for_ms):
                case Confirmed(slot=slot):
                    return await self._with_amount(order, sent, slot)
                case FailedOnChain(reason=reason, detail=detail):
                    return [self.failing.event(order, reason, detail)]
                case Expired(block_height=height):
                    limit = sent.last_valid_block_height
                    why = f"not on the chain at block height {height}; it was valid until {limit}"
                    return [self.failing.event(order, Reason.TRANSACTION_EXPIRED, why)]
                case StillPending():
                    pass
        return []

    async def _send(self, order: Order, sent: TxSubmitted, *, again: bool) -> bool:
        if sent.signature in self._just_sent:
            self._just_sent.discard(sent.signature)
            return True
        taken: Sent = True
        try:
            with crossing("chain.send"):
                await self.chain.send(sent.transaction)
        except (RpcRefused, ChainUnavailable) as trouble:
            taken = trouble
        self._told(order, sent, taken, again=again)
        return taken is True

    def _told(self, order: Order, tx: TxSubmitted, taken: Sent, *, again: bool) -> None:
        if isinstance(taken, ChainUnavailable):
            observe.send_trouble(order, tx, "unavailable", str(taken), news=self._sending.met(order))
            return
        self._sending.over()
        if taken is True:
            observe.transaction_sent(order, tx, again=again)
        else:
            observe.send_trouble(order, tx, "refused", str(taken), news=not again)

    async def _evidence(self, order: Order, sent: TxSubmitted, for_ms: int) -> Evidence:
        try:
            proof = await self._proof(order, sent, for_ms)
        except ChainUnavailable as trouble:
            observe.look_trouble(order, sent, str(trouble), news=self._looking.met(order))
            return StillPending()
        if not isinstance(proof, StillPending):
            self._looking.over()
            self._undecided.discard(order.id)
        return proof

    async def _proof(self, order: Order, sent: TxSubmitted, for_ms: int) -> Evidence:
        with crossing("chain.look"):
            seen = await self.poller.watch(sent.signature, for_ms)
        if seen:
            return conclude(seen, None, sent.last_valid_block_height)
        with crossing("chain.view"):
            view = await self.chain.view(blockhash_of(sent.transaction))
        proof = await self._proof_by(view, sent)
        if isinstance(proof, StillPending):
            self._tell_if_late(order, sent, view)
        return proof

    def _tell_if_late(self, order: Order, sent: TxSubmitted, view: ChainView) -> None:
        if self.failing.now() - order.updated_at > DECIDED_WITHIN:
            why = f"not decided at height {view.block_height}, long after it was sent"
            observe.look_trouble(order, sent, why, news=order.id not in self._undecided)
            self._undecided.add(order.id)

    async def _proof_by(self, view: ChainView, sent: TxSubmitted) -> Evidence:
        if not past(view, sent.last_valid_block_height):
            return StillPending()
        # The order matters: a look from before the height was seen could miss the last valid block.
        with crossing("chain.last_look"):
            blocks_from = needs_blocks_from(view, sent.last_valid_block_height)
            look: Look = await self.chain.look_back(sent.signature, blocks_from)
        proof = conclude(look, view, sent.last_valid_block_height)
        if isinstance(proof, Expired):
            await self.chain.check_is_of(sent.genesis)
        return proof

    async def _with_amount(self, order: Order, sent: TxSubmitted, slot: int) -> Sequence[Event]:
        """A node may know a signature's status long before it shows the transaction."""
        loop = asyncio.get_running_loop()
        deadline, pause_ms = loop.time() + AMOUNT_SECONDS_MAX, AMOUNT_PAUSE_MS
        while True:
            unavailable = ""
            try:
                with crossing("chain.balances"):
                    meta = await self.chain.balances(sent.signature)
                self._showing.over()
                if meta is not None:
                    return [self._confirmed(order, sent, slot, meta)]
            except ChainUnavailable as trouble:
                unavailable = str(trouble)
            if loop.time() >= deadline:
                break
            await asyncio.sleep(pause_ms / 1000)  # a node tells nobody when it has it
            pause_ms = min(2 * pause_ms, AMOUNT_PAUSE_MAX_MS)
        if unavailable:
            observe.look_trouble(order, sent, unavailable, news=self._showing.met(order))
            return []
        if self.failing.now() - order.updated_at < SHOWN_WITHIN:
            return []
        raise AmountUnknown(f"{sent.signature} is confirmed, but the node does not show the transaction")

    def _confirmed(self, order: Order, sent: TxSubmitted, slot: int, meta: dict[str, Any]) -> Event:
        assert order.route, "an order with a transaction has a route"
        try:
            amount_out = amount_received(meta, self.wallet.address, order.mint_out)
            if amount_out is None:  # perhaps another key signed it, before this one was set
                amount_out = amount_received(meta, payer_of(sent.transaction), order.mint_out)
        except (AttributeError, LookupError, TypeError, ValueError):
            amount_out = None
        if amount_out is None or not 0 <= amount_out <= U64_MAX:
            wanted = f"no {order.token_out} for the wallet"
            raise AmountUnknown(f"{sent.signature} is confirmed, but its balances show {wanted}")
        event = TxConfirmed(
            attempt=sent.attempt,
            signature=sent.signature,
            slot=slot,
            amount_out=amount_out,
            quoted_out=order.route.quoted_out,
            against_quote_ppm=against_quote_ppm(amount_out, order.route.quoted_out),
        )
        observe.transaction_confirmed(order, event)
        return event
