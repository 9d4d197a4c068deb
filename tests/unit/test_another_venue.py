"""A venue whose quote could not be had is passed over in the next attempt, for one within the order's slippage."""

import pytest

from libs.events.log import Snapshot
from libs.events.model import Reason, RouteSelected, RoutingStarted
from libs.events.order import Order
from libs.events.retry import RetryPolicy, after_failure
from libs.quoting.answer import Answer
from libs.quoting.choice import decide
from tests.builders import NOW, a_request, then
from tests.unit.test_router_domain import offers

POLICY = RetryPolicy(attempts_max=3, base_ms=1, cap_ms=1)
BEST, NEAR, FAR = offers("best", 1_000_000), offers("near", 996_000), offers("far", 900_000)


def decided(order: Order, answers: tuple[Answer, ...]) -> RouteSelected:
    event = decide(order, answers, now=NOW, fraction=0, policy=POLICY)
    assert isinstance(event, RouteSelected)
    return event


def failed(*times: Reason, answers: tuple[Answer, ...], slippage_bps: int = 50) -> Order:
    """An order that failed so each time, in its next attempt."""
    _, now = a_request(4, slippage_bps=slippage_bps)
    _, now = then(now, RoutingStarted(attempt=1))
    for reason in times:
        now = _failed_once_more(now, reason, answers)
    return now.order


def _failed_once_more(now: Snapshot, reason: Reason, answers: tuple[Answer, ...]) -> Snapshot:
    _, now = then(now, decided(now.order, answers))
    _, now = then(now, after_failure(now.order, "execution", reason, "because", now=NOW, fraction=0, policy=POLICY))
    _, now = then(now, RoutingStarted(attempt=now.order.attempt + 1))
    return now


def winner(order: Order, *answers: Answer) -> str:
    return decided(order, answers).route.legs[0].venue


@pytest.mark.parametrize("reason", [Reason.VENUE_REFUSED, Reason.VENUES_UNAVAILABLE, Reason.TRANSACTION_REJECTED])
def test_another_within_the_slippage_is_tried_next_and_then_the_best_again(reason: Reason) -> None:
    answers = (BEST, NEAR, FAR)
    assert winner(failed(answers=answers), *answers) == "best"
    assert winner(failed(reason, answers=answers), *answers) == "near"
    assert winner(failed(reason, reason, answers=answers), *answers) == "best"


def test_the_only_one_and_one_far_better_are_tried_again_to_the_last() -> None:
    refused = Reason.VENUE_REFUSED
    assert winner(failed(refused, answers=(BEST,)), BEST) == "best"
    assert winner(failed(refused, answers=(BEST, FAR)), BEST, FAR) == "best"
    assert winner(failed(refused, refused, answers=(BEST, FAR)), BEST, FAR) == "best"
    assert winner(failed(refused, refused, answers=(BEST,)), BEST) == "best"


@pytest.mark.parametrize("reason", [Reason.SLIPPAGE_EXCEEDED, Reason.TRANSACTION_EXPIRED])
def test_what_is_no_fault_of_the_venue_changes_nothing(reason: Reason) -> None:
    assert winner(failed(reason, reason, answers=(BEST, NEAR)), BEST, NEAR) == "best"


def test_what_is_wanted_is_not_given_up_for_it() -> None:
    order = failed(Reason.VENUE_REFUSED, answers=(BEST, NEAR))
    assert winner(order, BEST, NEAR) == "near"
    terms = a_request(4, terms={"min_out": 998_000})[1].order.terms
    assert winner(order.model_copy(update={"terms": terms}), BEST, NEAR) == "best"


def test_each_is_told_why() -> None:
    event = decided(failed(Reason.VENUE_REFUSED, answers=(BEST, NEAR, FAR)), (BEST, NEAR, FAR))
    assert [(one.outcome, one.why) for one in event.candidates] == [
        ("lost", "the attempt before was over it, and failed"),
        ("selected", "best net output of 3 quotes but that of best, over which the attempt before failed"),
        ("lost", "9.63 % less than near"),
    ]


def test_who_would_have_won_anyway_is_told_so() -> None:
    order = failed(Reason.VENUE_REFUSED, answers=(BEST, NEAR))
    event = decided(order, (NEAR, offers("best", 996_000)))
    assert [(one.outcome, one.why) for one in event.candidates] == [
        ("selected", "best net output of 2 quotes but that of best, over which the attempt before failed"),
        ("lost", "the attempt before was over it, and failed"),
    ]
    event = decided(order, (NEAR, offers("best", 995_000)))
    assert [one.why for one in event.candidates] == ["best net output of 2 quotes", "0.10 % less than near"]
