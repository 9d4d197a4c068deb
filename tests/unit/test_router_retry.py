"""Pauses grow, never beyond the cap, and use all of their range; what cannot be helped is not retried."""

from datetime import timedelta

import pytest
from hypothesis import given, strategies as st

from libs.events.model import AttemptFailed, OrderFailed, Reason
from libs.events.order import Order
from libs.events.reactions import PERMANENT
from libs.events.retry import DETAIL_CHARS_MAX, RetryPolicy, after_failure, retry_delay_ms
from tests.builders import NOW, a_request, attempt_failed, order_opened, route_selected, routing_started, then

POLICY = RetryPolicy(attempts_max=5, base_ms=500, cap_ms=30_000)
FRACTIONS = st.floats(0, 1, exclude_max=True)


def an_order(attempt: int = 1, expires_in_s: float = 600) -> Order:
    _, snapshot = a_request(4)
    return snapshot.order.model_copy(update={"attempt": attempt, "expires_at": NOW + timedelta(seconds=expires_in_s)})


def failed(order: Order, reason: Reason, fraction: float = 0.5, detail: str = "why") -> AttemptFailed | OrderFailed:
    return after_failure(order, "routing", reason, detail, now=NOW, fraction=fraction, policy=POLICY)


@given(st.integers(0, 1_000), FRACTIONS, st.integers(1, 10_000), st.integers(1, 100_000))
def test_a_pause_is_never_negative_above_the_cap_or_above_its_own_range(
    attempt: int, fraction: float, base_ms: int, cap_ms: int
) -> None:
    delay_ms = retry_delay_ms(attempt, fraction, base_ms, cap_ms)
    assert 0 <= delay_ms <= min(cap_ms, base_ms * 2 ** max(attempt - 1, 0))


@given(st.integers(1, 40), st.integers(1, 10_000), st.integers(1, 100_000))
def test_jitter_is_full_from_nothing_to_the_whole_pause(attempt: int, base_ms: int, cap_ms: int) -> None:
    longest = min(cap_ms, base_ms * 2 ** (attempt - 1))
    assert retry_delay_ms(attempt, 0, base_ms, cap_ms) == 0
    assert retry_delay_ms(attempt, 1 - 2**-53, base_ms, cap_ms) in {longest - 1, longest}


@given(st.integers(1, 60), FRACTIONS)
def test_a_later_attempt_never_waits_less_for_the_same_chance(attempt: int, fraction: float) -> None:
    assert retry_delay_ms(attempt, fraction, 500, 30_000) <= retry_delay_ms(attempt + 1, fraction, 500, 30_000)


def test_pauses_double() -> None:
    assert [retry_delay_ms(attempt, 0.5, 500, 3_000) for attempt in range(1, 6)] == [250, 500, 1000, 1500, 1500]


def test_an_attempt_that_may_be_repeated_says_when() -> None:
    event = failed(an_order(attempt=2), Reason.VENUES_UNAVAILABLE)
    assert isinstance(event, AttemptFailed)
    assert (event.stage, event.attempt, event.delay_ms) == ("routing", 2, 500)
    assert event.retry_at == NOW + timedelta(milliseconds=500)


@pytest.mark.parametrize("reason", list(Reason))
def test_a_permanent_reason_ends_the_order_at_the_first_attempt_and_no_other_does(reason: Reason) -> None:
    assert isinstance(failed(an_order(), reason), OrderFailed) is (reason in PERMANENT)


@pytest.mark.parametrize("reason", list(Reason))
def test_the_last_attempt_ends_the_order_with_its_reason(reason: Reason) -> None:
    event = failed(an_order(attempt=POLICY.attempts_max), reason)
    assert isinstance(event, OrderFailed)
    assert (event.reason, event.attempt, event.detail) == (reason, POLICY.attempts_max, "why")


def test_attempts_from_before_a_limit_order_waited_are_not_counted_but_slow_it_down() -> None:
    _, now = a_request(4)
    for attempt in range(1, POLICY.attempts_max):  # one at a time, months apart: in each the price met is gone again
        _, now = then(now, routing_started(attempt), route_selected(attempt), attempt_failed(attempt))
        _, now = then(now, routing_started(attempt + 1), order_opened(attempt + 1))
    for attempt in range(POLICY.attempts_max, 2 * POLICY.attempts_max - 1):
        _, now = then(now, routing_started(attempt), route_selected(attempt))
        event = failed(now.order, Reason.SLIPPAGE_EXCEEDED)
        assert isinstance(event, AttemptFailed)
        assert (event.attempt, event.delay_ms) == (attempt, retry_delay_ms(attempt, 0.5, 500, 30_000))
        _, now = then(now, event)
    _, now = then(now, routing_started(2 * POLICY.attempts_max - 1))
    assert isinstance(failed(now.order, Reason.SLIPPAGE_EXCEEDED), OrderFailed)


@given(st.floats(-10, 600), st.integers(1, 4), FRACTIONS)
def test_no_retry_is_later_than_the_order_lives(expires_in_s: float, attempt: int, fraction: float) -> None:
    order = an_order(attempt, expires_in_s)
    event = failed(order, Reason.SLIPPAGE_EXCEEDED, fraction)
    assert isinstance(event, AttemptFailed)
    assert event.retry_at <= max(NOW, order.expires_at + timedelta(milliseconds=1))
    assert event.retry_at == NOW + timedelta(milliseconds=event.delay_ms)


def test_a_detail_from_outside_is_bounded() -> None:
    assert len(failed(an_order(), Reason.NO_ROUTE, detail="x" * 10_000).detail) == DETAIL_CHARS_MAX
