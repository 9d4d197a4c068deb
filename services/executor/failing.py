"""What follows when the execution of an order failed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from libs.events.model import Event, Reason
from libs.events.order import Order
from libs.events.retry import RetryPolicy, after_failure
from services.executor import observe


@dataclass(frozen=True, slots=True)
class Failing:
    """What follows a failed attempt. `now` is UTC; `fraction` is random in [0, 1), for the jitter of retries."""

    policy: RetryPolicy
    now: Callable[[], datetime]
    fraction: Callable[[], float]

    def event(self, order: Order, reason: Reason, detail: str) -> Event:
        event = after_failure(
            order, "execution", reason, detail, now=self.now(), fraction=self.fraction(), policy=self.policy
        )
        observe.attempt_failed(order, event)
        return event
