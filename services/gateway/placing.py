"""Placing orders: one, or many at once with an outcome each."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from libs.events.commands import request as order_step
from libs.events.crash import crash_point
from libs.events.errors import LogUnavailable
from libs.events.ids import new_order_id, partition_of_user
from libs.events.log import EventLog, Idempotency, Step
from libs.events.model import OrderRequested, Terms
from libs.events.order import Order
from libs.events.trusted import trusted
from libs.orders.views import OrderViews
from libs.service.coalesce import each
from services.gateway import limits, observe
from services.gateway.bodies import FieldError, Invalid
from services.gateway.commands import SOURCE, Replayed, place, place_many
from services.gateway.dto import OrderRequest
from services.gateway.in_time import in_time
from services.gateway.problems import Problem
from services.gateway.quotes import Asked, Quotes


class Asker(NamedTuple):
    """Who asks, and the names of the request. `who`: the user or the API key, whose rate it counts against."""

    user: str
    request_id: str
    traceparent: str
    who: str


class Placed(NamedTuple):
    """An order that is in the log. `replayed`: it was before, under the same key."""

    order: Order
    replayed: bool


class Placing:
    """`slippage_bps` and `lifetime` are for orders that name none; `open_max`: of a user's orders that have not ended.

    `check_waiting` raises Problem for an order that would wait where there is no room for it; `clock` is UTC.
    """

    def __init__(
        self,
        views: OrderViews,
        quotes: Quotes,
        check_waiting: Callable[[Terms | None], None],
        slippage_bps: int,
        lifetime: timedelta,
        open_max: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._views, self._quotes, self._check_waiting, self._clock = views, quotes, check_waiting, clock
        self._slippage_bps, self._lifetime, self._open_max = slippage_bps, lifetime, open_max

    async def one(self, log: EventLog, asker: Asker, asked: OrderRequest, key: str | None) -> Placed:
        """Write it, or find what its key made before.

        Raises:
            Problem, LogUnavailable, OutcomeUndecided
        """
        step, order = await self._step(log, asker, asked, key, self._clock())
        started = time.perf_counter()
        replayed = await place(log, step)
        if replayed:
            return await self._made_before(replayed.order_id, asker)
        observe.orders_written(1, time.perf_counter() - started)
        return _new(step, order, asker)

    async def many(
        self, log: EventLog, asker: Asker, asked: Sequence[tuple[OrderRequest, str | None] | Exception]
    ) -> list[Placed | Exception]:
        """All in one write; what goes wrong with one is its own outcome.

        Of two with the same key the first is written and the other is its replay.
        """
        now = self._clock()
        made = [one if isinstance(one, Exception) else await self._tried(log, asker, *one, now) for one in asked]
        written = iter(await self._written(log, asker, [one for one in made if not isinstance(one, Exception)]))
        return [one if isinstance(one, Exception) else next(written) for one in made]

    async def _written(
        self, log: EventLog, asker: Asker, made: Sequence[tuple[Step, Order]]
    ) -> list[Placed | Exception]:
        started = time.perf_counter()
        answers = await place_many(log, [step for step, _ in made])
        if accepted := answers.count(None):
            observe.orders_written(accepted, time.perf_counter() - started)
        replays = dict.fromkeys(answer.order_id for answer in answers if isinstance(answer, Replayed))
        before = dict(zip(replays, await each(self._made_before(one, asker) for one in replays), strict=True))
        return [
            _new(step, order, asker)
            if answer is None
            else (before[answer.order_id] if isinstance(answer, Replayed) else answer)
            for (step, order), answer in zip(made, answers, strict=True)
        ]

    async def _tried(
        self, log: EventLog, asker: Asker, asked: OrderRequest, key: str | None, now: datetime
    ) -> tuple[Step, Order] | Exception:
        try:
            return await self._step(log, asker, asked, key, now)
        except Exception as fault:
            return fault

    async def _step(
        self, log: EventLog, asker: Asker, asked: OrderRequest, key: str | None, now: datetime
    ) -> tuple[Step, Order]:
        key = _one_key(key, asked)
        fingerprint = asked.fingerprint() if key else None
        if asked.late and not (key and await log.order_of_key(asker.user, key)):
            raise Invalid(asked.late)
        try:
            self._check_waiting(asked.terms)
        except Problem:
            if not (key and await log.order_of_key(asker.user, key)):
                raise
        if asked.quote_id is not None:
            asked = await self._held_to_quote(log, asked, asked.quote_id, key, asker.user)
        step, made = order_step(
            self._event(asked, now, key, fingerprint, asker.request_id),
            order_id=new_order_id(partition_of_user(asker.user, log.partitions)),
            user=asker.user,
            source=SOURCE,
            now=now,
            traceparent=asker.traceparent,
            idempotency=Idempotency(key, fingerprint) if key and fingerprint else None,
            open_max=self._open_max,
        )
        return step, made.order

    def _event(
        self, asked: OrderRequest, now: datetime, key: str | None, fingerprint: str | None, request_id: str
    ) -> OrderRequested:
        # Everything in it was checked when the body was read.
        return trusted(
            OrderRequested,
            {
                "token_in": asked.token_in.symbol,
                "token_out": asked.token_out.symbol,
                "mint_in": asked.token_in.mint,
                "mint_out": asked.token_out.mint,
                "amount_in": asked.amount_in,
                "slippage_bps": self._slippage_bps if asked.slippage_bps is None else asked.slippage_bps,
                "expires_at": asked.expires_at or now + self._lifetime_of(asked),
                "idempotency_key": key,
                "fingerprint": fingerprint,
                "request_id": request_id,
                "terms": asked.terms,
            },
        )

    async def _held_to_quote(
        self, log: EventLog, asked: OrderRequest, quote_id: str, key: str | None, user: str
    ) -> OrderRequest:
        """With the least amount out its quote has promised."""
        bps = self._slippage_bps if asked.slippage_bps is None else asked.slippage_bps
        try:
            least = self._quotes.least_of(quote_id, Asked(asked.token_in, asked.token_out, asked.amount_in, bps), user)
        except Invalid:
            # Asked again after the quote's time, it is still the same order.
            if key and await log.order_of_key(user, key):
                return asked
            raise
        terms = asked.terms or Terms()
        return asked._replace(terms=terms.model_copy(update={"min_out": max(least, terms.min_out or 0)}))

    def _lifetime_of(self, asked: OrderRequest) -> timedelta:
        waits = asked.terms is not None and asked.terms.time_in_force == "GTC"
        return limits.LIMIT_EXPIRES_IN_MAX if waits else self._lifetime

    async def _made_before(self, order_id: str, asker: Asker) -> Placed:
        order = await in_time(self._views.get(order_id))
        if order is None:
            raise LogUnavailable(f"order {order_id} of an idempotency key cannot be found")
        observe.order_replayed(order_id, asker.user, asker.request_id)
        return Placed(order, True)


def _new(step: Step, order: Order, asker: Asker) -> Placed:
    crash_point("order.answer.before")
    observe.order_accepted(order.id, asker.user, asker.request_id, step.events[0].traceparent)
    return Placed(order, False)


def _one_key(key: str | None, asked: OrderRequest) -> str | None:
    """A client's own order id is as good as an idempotency key; sent both ways it must be the same."""
    own = asked.terms.client_order_id if asked.terms else None
    if key and own and key != own:
        detail = "With both, clientOrderId and Idempotency-Key must be the same text: either finds the order."
        raise Invalid(FieldError("#/clientOrderId", "differs_from_idempotency_key", detail))
    return key or own
