"""Placing orders: one, or many at once with an outcome each."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from libs.events.commands import request as order_step
from libs.events.crash import crash_point
from libs.events.errors import LogUnavailable
from libs.events.ids import new_order_id, partition_of_user
from libs.events.log import EventLog, Idempotency
from libs.events.model import OrderRequested, Terms
from libs.events.order import Order
from libs.orders.views import OrderViews
from services.gateway import limits, observe
from services.gateway.bodies import FieldError, Invalid
from services.gateway.commands import SOURCE, KeyReused, place
from services.gateway.dto import OrderRequest
from services.gateway.problems import Problem
from services.gateway.quotes import Asked, Quotes


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and the names of the request. `who`: the user or the API key, whose rate it counts against."""

    user: str
    request_id: str
    traceparent: str
    who: str


@dataclass(frozen=True, slots=True)
class Placed:
    """An order that is in the log. `replayed`: it was before, under the same key."""

    order: Order
    replayed: bool


class Placing:
    """`clock` is UTC; `slippage_bps` and `lifetime` are for orders that name none."""

    def __init__(
        self,
        views: OrderViews,
        quotes: Quotes,
        slippage_bps: int,
        lifetime: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._views, self._quotes, self._clock = views, quotes, clock
        self._slippage_bps, self._lifetime = slippage_bps, lifetime

    async def one(self, log: EventLog, asker: Asker, asked: OrderRequest, key: str | None) -> Placed:
        """Write it, or find what its key made before.

        Raises:
            Problem, LogUnavailable, OutcomeUndecided
        """
        key = _one_key(key, asked)
        now, fingerprint = self._clock(), asked.fingerprint() if key else None
        asked = await self._held_to_quote(log, asked, key, asker.user)
        step, made = order_step(
            self._event(asked, now, key, fingerprint, asker.request_id),
            order_id=new_order_id(partition_of_user(asker.user, log.partitions)),
            user=asker.user,
            source=SOURCE,
            now=now,
            traceparent=asker.traceparent,
            idempotency=Idempotency(key, fingerprint) if key and fingerprint else None,
        )
        started = time.perf_counter()
        try:
            replayed = await place(log, step)
        except KeyReused:
            raise Problem("idempotency_key_reused", "This Idempotency-Key came with another order before.") from None
        if replayed:
            return Placed(await self._made_before(replayed.order_id, asker), True)
        took_s = time.perf_counter() - started
        crash_point("order.answer.before")
        observe.order_accepted(made.order.id, asker.user, asker.request_id, made.event.traceparent, took_s)
        return Placed(made.order, False)

    async def many(
        self, log: EventLog, asker: Asker, asked: Sequence[tuple[OrderRequest, str | None] | Exception]
    ) -> list[Placed | BaseException]:
        """All at once, so that they share the writes; what goes wrong with one is its own outcome.

        Of two with the same key the first is written and the other is its replay.
        """
        calls = [self.one(log, asker, *each) for each in asked if not isinstance(each, Exception)]
        outcomes = iter(await asyncio.gather(*calls, return_exceptions=True))
        return [each if isinstance(each, Exception) else next(outcomes) for each in asked]

    def _event(
        self, asked: OrderRequest, now: datetime, key: str | None, fingerprint: str | None, request_id: str
    ) -> OrderRequested:
        return OrderRequested(
            token_in=asked.token_in.symbol,
            token_out=asked.token_out.symbol,
            mint_in=asked.token_in.mint,
            mint_out=asked.token_out.mint,
            amount_in=asked.amount_in,
            slippage_bps=self._slippage_bps if asked.slippage_bps is None else asked.slippage_bps,
            expires_at=asked.expires_at or now + self._lifetime_of(asked),
            idempotency_key=key,
            fingerprint=fingerprint,
            request_id=request_id,
            terms=asked.terms,
        )

    async def _held_to_quote(self, log: EventLog, asked: OrderRequest, key: str | None, user: str) -> OrderRequest:
        """With the least amount out its quote has promised."""
        if asked.quote_id is None:
            return asked
        bps = self._slippage_bps if asked.slippage_bps is None else asked.slippage_bps
        try:
            least = self._quotes.least_of(
                asked.quote_id, Asked(asked.token_in, asked.token_out, asked.amount_in, bps), user
            )
        except Invalid:
            # Asked again after the quote's time, it is still the same order.
            if key and await log.order_of_key(user, key):
                return asked
            raise
        terms = asked.terms or Terms()
        return replace(asked, terms=terms.model_copy(update={"min_out": max(least, terms.min_out or 0)}))

    def _lifetime_of(self, asked: OrderRequest) -> timedelta:
        waits = asked.terms is not None and asked.terms.time_in_force == "GTC"
        return limits.LIMIT_EXPIRES_IN_MAX if waits else self._lifetime

    async def _made_before(self, order_id: str, asker: Asker) -> Order:
        order = await self._views.get(order_id)
        if order is None:
            raise LogUnavailable(f"order {order_id} of an idempotency key cannot be found")
        observe.order_replayed(order_id, asker.user, asker.request_id)
        return order


def _one_key(key: str | None, asked: OrderRequest) -> str | None:
    """A client's own order id is as good as an idempotency key; sent both ways it must be the same."""
    own = asked.terms.client_order_id if asked.terms else None
    if key and own and key != own:
        detail = "With both, clientOrderId and Idempotency-Key must be the same text: either finds the order."
        raise Invalid(FieldError("#/clientOrderId", "differs_from_idempotency_key", detail))
    return key or own
