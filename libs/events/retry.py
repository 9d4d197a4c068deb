"""One policy for every failed attempt: try again after a pause, or give the order up. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.events.model import AttemptFailed, OrderFailed, Reason, Stage
from libs.events.order import Order
from libs.events.reactions import PERMANENT

DETAIL_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts_max`: attempts an order gets in all, a limit order each time that its price is met.

    `base_ms` and `cap_ms`: range of the pauses between them.
    """

    attempts_max: int
    base_ms: int
    cap_ms: int


def retry_delay_ms(attempt: int, fraction: float, base_ms: int, cap_ms: int) -> int:
    """Pause after attempt number `attempt`: exponential, with full jitter (`fraction` in [0, 1) of the whole pause).

    Full jitter, because orders that failed together (a venue was away) must not come back together.
    """
    longest = min(cap_ms, base_ms << max(attempt - 1, 0))
    return min(int(longest * fraction), longest)


def after_failure(
    order: Order, stage: Stage, reason: Reason, detail: str, *, now: datetime, fraction: float, policy: RetryPolicy
) -> AttemptFailed | OrderFailed:
    """What follows from a failed attempt: `OrderFailed` if trying again cannot help or was done often enough.

    Attempts from before an order waited do not end it, but they do make its pauses longer: one that is met and missed
    again and again pays the network's fee each time.
    """
    detail = detail[:DETAIL_CHARS_MAX]
    once = order.terms is not None and order.terms.time_in_force in {"IOC", "FOK"}
    if once or reason in PERMANENT or order.attempt - order.attempts_before >= policy.attempts_max:
        return OrderFailed(stage=stage, attempt=order.attempt, reason=reason, detail=detail)
    delay_ms = retry_delay_ms(order.attempt, fraction, policy.base_ms, policy.cap_ms)
    # No later than the order's expiry: it ends on time instead of sleeping past it.
    delay_ms = min(delay_ms, max(0, -((now - order.expires_at) // timedelta(milliseconds=1))))
    return AttemptFailed(
        stage=stage,
        attempt=order.attempt,
        reason=reason,
        detail=detail,
        delay_ms=delay_ms,
        retry_at=now + timedelta(milliseconds=delay_ms),
    )
