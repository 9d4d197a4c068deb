"""What the router does about each event: start an attempt, ask every venue, pick the best route."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from services.router.domain import decide
from services.router.venues import Venue


@dataclass(frozen=True, slots=True)
class Router:
    """`now` is UTC; `fraction` is random in [0, 1), for the jitter of retries."""

    venues: Sequence[Venue]
    policy: RetryPolicy
    now: Callable[[], datetime]
    fraction: Callable[[], float]

    async def handle(self, order: Order, event: Envelope) -> Sequence[Event]:
        """What happened next. Venues in trouble are part of the answer, never an error."""
        if self.now() >= order.expires_at:
            return [_expired(order)]
        match event.data:
            case OrderRequested() | AttemptFailed():
                return [RoutingStarted(attempt=order.attempt + 1)]
            case RoutingStarted():
                return [await self._route(order)]
            case _:
                raise TypeError(f"{event.type} is not for the router")

    async def _route(self, order: Order) -> Event:
        with crossing("venue.quote"):
            answers = await asyncio.gather(*(venue.quote(order) for venue in self.venues))
        for answer in answers:
            observe.venue_answered(answer)
        decision = decide(order, answers, now=self.now(), fraction=self.fraction(), policy=self.policy)
        observe.decided(order, decision)
        return decision


def _expired(order: Order) -> OrderExpired:
    event = OrderExpired(expires_at=order.expires_at)
    observe.order_expired(order, event)
    return event
