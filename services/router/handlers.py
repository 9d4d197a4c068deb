"""What the router does about each event: start an attempt, ask every venue, pick the best route."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from libs.events.crash import crossing
from libs.events.envelope import Envelope
from libs.events.model import AttemptFailed, Event, OrderExpired, OrderOpened, OrderRequested, RoutingStarted
from libs.events.order import Order
from libs.events.retry import RetryPolicy
from libs.events.trusted import trusted
from libs.quoting.answer import Answer
from libs.quoting.choice import decide
from libs.quoting.venues import Venues
from services.router import observe
from services.router.attendance import Attendance

Start = tuple[Order, int]
"""An order and the attempt it begins."""
Asked = asyncio.Future[dict[str, list[Answer]]]

ANSWER_KEPT_S = 1.0  # for a start that is in the log a moment after the answer; quotes age
# Venues that answer within this time are told of together with the start of the attempt: one write instead of two.
# Slower ones are waited for after the start is in the log, so that nobody wonders what the order is doing.
TOGETHER_S = 0.2
ASKED_MAX = 1_000  # questions under way for starts that are being written; beyond: asked again


class Router:
    """`now` is UTC; `fraction` is random in [0, 1), for the jitter of retries."""

    def __init__(
        self,
        venues: Venues,
        policy: RetryPolicy,
        now: Callable[[], datetime],
        fraction: Callable[[], float],
    ) -> None:
        self._venues, self._policy, self._now, self._fraction = venues, policy, now, fraction
        self._asked: dict[tuple[str, int], Asked] = {}
        self._attendance = Attendance()

    async def handle(self, order: Order, event: Envelope) -> Sequence[Event]:
        """What happened next. Venues in trouble are part of the answer, never an error."""
        (events,) = await self.handle_many([(order, event)])
        return events

    async def handle_many(self, pairs: Sequence[tuple[Order, Envelope]]) -> list[Sequence[Event]]:
        """`handle` for each; the venues are asked about all of them at once."""
        found: dict[str, Sequence[Event]] = {}
        starting: list[Start] = []
        going_on: list[Order] = []
        now = self._now()
        for order, event in pairs:
            if now >= order.expires_at:
                found[order.id] = [_expired(order)]
            elif isinstance(event.data, OrderOpened):
                # Nothing has failed: it is the same attempt.
                starting.append((order, order.attempt))
            elif isinstance(event.data, OrderRequested | AttemptFailed):
                starting.append((order, order.attempt + 1))
            elif isinstance(event.data, RoutingStarted):
                going_on.append(order)
            else:
                raise TypeError(f"{event.type} is not for the router")
        if starting:
            found |= await self._start(starting)
        if going_on:
            found |= await self._go_on(going_on)
        return [found[order.id] for order, _ in pairs]

    async def _start(self, starts: Sequence[Start]) -> dict[str, Sequence[Event]]:
        asked = self._ask([order for order, _ in starts])
        done, _ = await asyncio.wait([asked], timeout=TOGETHER_S)
        answers = asked.result() if done else {}
        events: dict[str, Sequence[Event]] = {}
        for order, attempt in starts:
            started = trusted(RoutingStarted, {"attempt": attempt})
            if done:
                events[order.id] = [started, self._decide(order, attempt, answers[order.id])]
                continue
            events[order.id] = [started]
            if len(self._asked) < ASKED_MAX:
                self._asked[order.id, attempt] = asked
        if not done:
            # If a start could not be written, nobody comes for the answer.
            asked.add_done_callback(lambda _: self._forget_later(starts))
        return events

    async def _go_on(self, orders: Sequence[Order]) -> dict[str, Sequence[Event]]:
        """With the answers asked for at their start; those for whom none are under way are asked about together."""
        asked = {order.id: self._asked.pop((order.id, order.attempt), None) for order in orders}
        unasked = [order for order in orders if asked[order.id] is None]
        anew = self._ask(unasked) if unasked else None
        events: dict[str, Sequence[Event]] = {}
        for order in orders:
            answer = asked[order.id] or anew
            assert answer is not None
            # Others wait for the same answer, and it stays theirs if this one is cancelled.
            events[order.id] = [self._decide(order, order.attempt, (await asyncio.shield(answer))[order.id])]
        return events

    def _forget_later(self, starts: Sequence[Start]) -> None:
        loop = asyncio.get_running_loop()
        for order, attempt in starts:
            loop.call_later(ANSWER_KEPT_S, self._asked.pop, (order.id, attempt), None)

    def _ask(self, orders: Sequence[Order]) -> Asked:
        return asyncio.ensure_future(self._answers(orders))

    async def _answers(self, orders: Sequence[Order]) -> dict[str, list[Answer]]:
        with crossing("venue.quote"):
            found = await self._venues.ask(orders)
        for place in range(self._venues.count):
            answered = [answers[place] for answers in found]
            observe.venue_answered(answered)
            self._attendance.heard(answered)
        return {order.id: answers for order, answers in zip(orders, found, strict=True)}

    def _decide(self, order: Order, attempt: int, answers: Sequence[Answer]) -> Event:
        decision = decide(
            order, answers, now=self._now(), fraction=self._fraction(), policy=self._policy, attempt=attempt
        )
        observe.decided(order, decision)
        return decision


def _expired(order: Order) -> OrderExpired:
    event = OrderExpired(expires_at=order.expires_at)
    observe.order_expired(order, event)
    return event
