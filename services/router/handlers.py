"""What the router does about each event: start an attempt, ask every venue, pick the best route."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from libs.events.crash import crossing
from libs.events.model import (
    AttemptFailed,
    Envelope,
    Event,
    OrderExpired,
    OrderRequested,
    RoutingStarted,
)
from libs.events.order import Order
from libs.events.retry import RetryPolicy
from services.router import observe
from services.router.domain import Answer, decide
from services.router.venues import Venue

Asked = asyncio.Future[list[Answer]]

ANSWER_KEPT_S = 1.0  # for a start that is in the log a moment after the answer; quotes age
# Venues that answer within this time are told of together with the start of the attempt: one write instead of two.
# Slower ones are waited for after the start is in the log, so that nobody wonders what the order is doing.
TOGETHER_S = 0.05
ASKED_MAX = 1_000  # questions under way for starts that are being written; beyond: asked again


class Router:
    """`now` is UTC; `fraction` is random in [0, 1), for the jitter of retries."""

    def __init__(
        self,
        venues: Sequence[Venue],
        policy: RetryPolicy,
        now: Callable[[], datetime],
        fraction: Callable[[], float],
    ) -> None:
        self._venues, self._policy, self._now, self._fraction = venues, policy, now, fraction
        self._asked: dict[tuple[str, int], Asked] = {}

    async def handle(self, order: Order, event: Envelope) -> Sequence[Event]:
        """What happened next. Venues in trouble are part of the answer, never an error."""
        if self._now() >= order.expires_at:
            return [_expired(order)]
        match event.data:
            case OrderRequested() | AttemptFailed():
                return await self._start(order)
            case RoutingStarted():
                return [await self._route(order, self._asked.pop((order.id, order.attempt), None))]
            case _:
                raise TypeError(f"{event.type} is not for the router")

    async def _start(self, order: Order) -> Sequence[Event]:
        started = RoutingStarted(attempt=order.attempt + 1)
        order = order.model_copy(update={"attempt": started.attempt})
        asked = asyncio.ensure_future(self._ask(order))
        done, _ = await asyncio.wait([asked], timeout=TOGETHER_S)
        if done:
            return [started, await self._route(order, asked)]
        if len(self._asked) < ASKED_MAX:
            self._asked[order.id, order.attempt] = asked
            # If the start could not be written, nobody comes for the answer.
            asked.add_done_callback(lambda _: self._forget_later(order))
        return [started]

    def _forget_later(self, order: Order) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(ANSWER_KEPT_S, self._asked.pop, (order.id, order.attempt), None)

    async def _ask(self, order: Order) -> list[Answer]:
        with crossing("venue.quote"):
            return await asyncio.gather(*(venue.quote(order) for venue in self._venues))

    async def _route(self, order: Order, asked: Asked | None) -> Event:
        answers = await (asked or self._ask(order))
        for answer in answers:
            observe.venue_answered(answer)
        decision = decide(order, answers, now=self._now(), fraction=self._fraction(), policy=self._policy)
        observe.decided(order, decision)
        return decision


def _expired(order: Order) -> OrderExpired:
    event = OrderExpired(expires_at=order.expires_at)
    observe.order_expired(order, event)
    return event
