"""When an order is split over venues, how much each gets, and what is told of it."""

from typing import Any

import pytest

from libs.events.model import Reason, RouteSelected, RoutingStarted, Status, Terms, TimeInForce
from libs.events.order import Failure, Order
from libs.events.retry import RetryPolicy, after_failure
from libs.quoting.answer import QUOTE_BYTES_MAX, Answer, NoQuote, Quote
from libs.quoting.choice import decide
from libs.quoting.splitting import PRICES_MISSED_MAX, rivals, shares, split
from tests.builders import NOW, SOL, USDC, a_request, route_selected, then

POLICY = RetryPolicy(attempts_max=3, base_ms=100, cap_ms=1_000)
TEN_SOL = 10 * 10**9


def an_order(**changes: object) -> Order:
    _, snapshot = a_request(4)
    return snapshot.order.model_copy(update={"attempt": 1, **changes})


def offers(
    venue: str, amount_out: int, impact_ppm: int | None = 50_000, pool: str = "", lamports: int = 5_000
) -> Answer:
    quote = Quote(amount_out, pool or f"{venue}-pool", 30, SOL, lamports, impact_ppm, {"outAmount": str(amount_out)})
    return Answer(venue, 7, quote)


def declines(venue: str, reason: Reason) -> Answer:
    return Answer(venue, 3, NoQuote(reason, "because"))


def ladder(venue: str, whole: int, moves: float, impact_ppm: int | None = 0, **more: Any) -> list[Answer]:
    """Of a venue that gives `whole` for nothing much, and less by `moves` for all of it."""
    outs = (tenth / 10 * (1 - moves * tenth / 10) for tenth in range(1, 10))
    return [offers(venue, int(whole * out), impact_ppm, **more) for out in outs]


def halved() -> tuple[list[Answer], list[list[Answer]]]:
    """Two venues alike: five tenths at each lose half of what ten at one do."""
    answers = [offers("a", 900), offers("b", 900)]
    return answers, [ladder("a", 1_000, 0.1), ladder("b", 1_000, 0.1)]


def test_two_venues_alike_get_a_half_each_and_the_event_says_why() -> None:
    answers, ladders = halved()
    assert rivals(an_order(), answers, 10) == ["a", "b"]
    whole = split(an_order(), answers, ladders)
    assert whole
    event = decide(an_order(), [*answers, whole], now=NOW, fraction=0.5, policy=POLICY)
    assert isinstance(event, RouteSelected)
    assert [(leg.venue, leg.pool, leg.share_bps, leg.amount_in) for leg in event.route.legs] == [
        ("a", "a-pool", 5_000, TEN_SOL // 2),
        ("b", "b-pool", 5_000, TEN_SOL // 2),
    ]
    assert [leg.quote for leg in event.route.legs] == [{"outAmount": "475"}] * 2
    assert (event.route.quoted_out, event.route.min_out, event.route.network_fee_lamports) == (950, 945, 5_000)
    told = {candidate.venue: (candidate.outcome, candidate.why) for candidate in event.candidates}
    assert told == {
        "a": ("lost", "5.26 % less than a+b"),
        "b": ("lost", "5.26 % less than a+b"),
        "a+b": ("selected", "50 % over a and 50 % over b: 5.56 % more than a alone"),
    }


def test_what_no_venue_can_fill_alone_they_fill_together() -> None:
    answers = [declines("a", Reason.INSUFFICIENT_LIQUIDITY), declines("b", Reason.INSUFFICIENT_LIQUIDITY)]
    assert rivals(an_order(), answers, 10) == ["a", "b"]
    ladders = [
        [*ladder("a", 1_000, 0.1)[:6], *[declines("a", Reason.INSUFFICIENT_LIQUIDITY)] * 3],
        [*ladder("b", 1_000, 0.5)[:7], *[declines("b", Reason.INSUFFICIENT_LIQUIDITY)] * 2],
    ]
    whole = split(an_order(), answers, ladders)
    assert whole
    event = decide(an_order(), [*answers, whole], now=NOW, fraction=0.5, policy=POLICY)
    assert isinstance(event, RouteSelected)
    assert [(leg.venue, leg.share_bps) for leg in event.route.legs] == [("a", 6_000), ("b", 4_000)]
    assert event.candidates[-1].why == "60 % over a and 40 % over b: no venue alone can fill it"


def test_where_one_venue_is_cheaper_and_not_enough_that_is_told() -> None:
    order = an_order(mint_in=USDC, mint_out=SOL, terms=Terms(min_out=940_000))
    answers = [offers("a", 930_000), offers("b", 900_000)]
    dear = [ladder(venue, 1_000_000, 0.1, lamports=25_000) for venue in "ab"]
    whole = split(order, answers, dear)
    assert whole
    event = decide(order, [*answers, whole], now=NOW, fraction=0.5, policy=POLICY)
    assert isinstance(event, RouteSelected)
    assert event.candidates[-1].why == "50 % over a and 50 % over b: no venue alone gives what is wanted"


def test_the_venue_that_is_best_for_the_whole_has_a_share_for_what_cannot_be_divided_is_with_it() -> None:
    """However little it gives for a small part."""
    answers = [offers("a", 850), offers("b", 800), offers("c", 800)]
    all_or_nothing = [offers("a", 0) for _ in range(9)]
    order = an_order(amount_in=TEN_SOL + 7)
    whole = split(order, answers, [all_or_nothing, ladder("b", 1_000, 0.1), ladder("c", 1_000, 0.1)])
    assert whole
    assert isinstance(whole.result, Quote)
    assert sum(part.amount_in for part in whole.result.parts) == TEN_SOL + 7
    assert {part.venue: part.share_bps for part in whole.result.parts}["a"] == 1_000


def test_what_is_too_much_for_all_together_is_not_split() -> None:
    answers = [declines("a", Reason.INSUFFICIENT_LIQUIDITY), declines("b", Reason.INSUFFICIENT_LIQUIDITY)]
    some = [*ladder("a", 1_000, 0.1)[:4], *[declines("a", Reason.INSUFFICIENT_LIQUIDITY)] * 5]
    assert split(an_order(), answers, [some, some]) is None
    nothing = [declines("a", Reason.INSUFFICIENT_LIQUIDITY)] * 9
    assert split(an_order(), answers, [nothing, ladder("b", 1_000, 0.1)]) is None


@pytest.mark.parametrize(
    ("answers", "able"),
    [
        ([offers("a", 900, 999), offers("b", 800)], []),
        ([offers("a", 900, 1_000), offers("b", 800)], ["a", "b"]),
        ([offers("a", 900, None), offers("b", 800)], []),
        ([offers("a", 900)], []),
        ([offers("a", 900), declines("b", Reason.NO_ROUTE), declines("c", Reason.VENUES_UNAVAILABLE)], []),
        ([offers("b", 900), declines("a", Reason.INSUFFICIENT_LIQUIDITY)], ["b", "a"]),
        ([offers("c", 1), offers("b", 3), offers("a", 2), offers("d", 0)], ["b", "a", "c"]),
        ([declines("a", Reason.INSUFFICIENT_LIQUIDITY)], []),
        ([], []),
    ],
)
def test_the_venues_that_are_asked_for_shares(answers: list[Answer], able: list[str]) -> None:
    assert rivals(an_order(), answers, 10) == able


def test_it_can_be_switched_off_and_dust_cannot_be_divided() -> None:
    answers, _ = halved()
    assert rivals(an_order(), [offers("a", 1, 10**6), offers("b", 1, 10**6)], 10_000) == []
    assert rivals(an_order(amount_in=9), answers, 10) == []
    assert rivals(an_order(amount_in=10), answers, 10) == ["a", "b"]
    assert shares(19, first=True) == [10, 11, 12, 13, 14, 15, 16, 17, 18]


@pytest.mark.parametrize(
    ("stage", "reason", "again"),
    [
        ("execution", Reason.VENUE_REFUSED, False),
        ("execution", Reason.VENUES_UNAVAILABLE, False),
        ("execution", Reason.TRANSACTION_REJECTED, False),
        ("execution", Reason.SLIPPAGE_EXCEEDED, True),
        ("execution", Reason.TRANSACTION_EXPIRED, True),
        ("routing", Reason.VENUES_UNAVAILABLE, True),
    ],
)
def test_after_a_failure_that_may_come_from_splitting_one_venue_does_it(
    stage: str, reason: Reason, again: bool
) -> None:
    answers, _ = halved()
    failure = Failure.model_validate({"stage": stage, "reason": reason, "detail": "x"})
    before = route_selected(out=900).route
    assert bool(rivals(an_order(failure=failure, route=before), answers, 10)) is again


def test_after_it_failed_one_venue_does_it_only_if_that_gives_what_was_to_come_out_at_the_least() -> None:
    answers, ladders = halved()
    together = split(an_order(), answers, ladders)
    assert together
    _, now = a_request(4)
    _, now = then(now, RoutingStarted(attempt=1))
    selected = decide(now.order, [*answers, together], now=NOW, fraction=0, policy=POLICY)
    assert isinstance(selected, RouteSelected)
    assert (selected.route.quoted_out, selected.route.min_out) == (950, 945)
    _, now = then(now, selected)
    refused = after_failure(now.order, "execution", Reason.VENUE_REFUSED, "x", now=NOW, fraction=0, policy=POLICY)
    _, now = then(now, refused, RoutingStarted(attempt=2))
    assert rivals(now.order, answers, 10) == ["a", "b"]
    assert rivals(now.order, [declines(venue, Reason.INSUFFICIENT_LIQUIDITY) for venue in "ab"], 10) == ["a", "b"]
    assert rivals(now.order, [offers("a", 944), offers("b", 900)], 10) == ["a", "b"]
    assert rivals(now.order, [offers("a", 945), offers("b", 900)], 10) == []


@pytest.mark.parametrize("time_in_force", ["IOC", "FOK"])
def test_an_order_with_one_attempt_is_split_only_if_no_venue_alone_gives_what_it_wants(
    time_in_force: TimeInForce,
) -> None:
    answers, _ = halved()
    any_price = Terms(time_in_force=time_in_force)
    assert rivals(an_order(terms=any_price), answers, 10) == []
    assert rivals(an_order(terms=Terms(time_in_force=time_in_force, min_out=900)), answers, 10) == []
    assert rivals(an_order(terms=Terms(time_in_force=time_in_force, min_out=901)), answers, 10) == ["a", "b"]
    assert rivals(an_order(terms=Terms(time_in_force="GTC", min_out=900)), answers, 10) == ["a", "b"]
    too_much = [declines("a", Reason.INSUFFICIENT_LIQUIDITY), declines("b", Reason.INSUFFICIENT_LIQUIDITY)]
    assert rivals(an_order(terms=any_price), too_much, 10) == ["a", "b"]


def test_a_limit_order_whose_legs_can_never_be_joined_is_not_split_for_ever() -> None:
    answers, ladders = halved()
    _, now = a_request(4, terms=Terms(limit_price="1", min_out=920))  # more than one gives, and less than two
    split_times = 0
    for _ in range(100):
        start = now.order.attempt if now.order.status is Status.OPEN else now.order.attempt + 1
        _, now = then(now, RoutingStarted(attempt=start))
        whole = split(now.order, answers, ladders) if rivals(now.order, answers, 10) else None
        event = decide(now.order, [*answers, whole] if whole else answers, now=NOW, fraction=0, policy=POLICY)
        _, now = then(now, event)
        if isinstance(event, RouteSelected):
            split_times += 1
            failed = after_failure(
                now.order, "execution", Reason.VENUE_REFUSED, "too large", now=NOW, fraction=0, policy=POLICY
            )
            _, now = then(now, failed)
    assert split_times == PRICES_MISSED_MAX
    assert now.order.status is Status.OPEN
    alone = decide(now.order, [offers("a", 920)], now=NOW, fraction=0, policy=POLICY)
    assert isinstance(alone, RouteSelected)


def test_the_same_liquidity_is_not_counted_twice() -> None:
    answers, (first, _) = halved()
    beside = ladder("b", 1_000, 0.1, pool="b-pool+a-pool")
    assert split(an_order(), answers, [first, beside]) is None


def test_a_gain_of_next_to_nothing_is_not_worth_a_larger_transaction() -> None:
    _, ladders = halved()
    barely = [offers("a", 949_906), offers("b", 900_000)]
    assert split(an_order(), barely, [ladder("a", 10**6, 0.1), ladder("b", 10**6, 0.1)]) is None
    assert split(an_order(), [offers("a", 949_905)], [ladder("a", 10**6, 0.1), ladder("b", 10**6, 0.1)])
    assert split(an_order(), [offers("a", 951), offers("b", 900)], ladders) is None


def test_the_network_is_paid_for_one_signature_and_for_what_each_asks_beyond() -> None:
    answers, _ = halved()
    dear = [ladder("a", 1_000, 0.1, lamports=7_000), ladder("b", 1_000, 0.1, lamports=5_500)]
    whole = split(an_order(), answers, dear)
    assert whole
    assert isinstance(whole.result, Quote)
    assert whole.result.network_fee_lamports == 7_500


def test_how_far_the_price_moves_is_told_as_that_of_each_share() -> None:
    answers, _ = halved()
    far = [ladder("a", 1_000, 0.1, impact_ppm=1_000), ladder("b", 1_000, 0.1, impact_ppm=3_000)]
    late = [answer._replace(took_ms=9) if place == 4 else answer for place, answer in enumerate(far[1])]
    whole = split(an_order(), answers, [far[0], late])
    assert whole
    assert isinstance(whole.result, Quote)
    assert whole.result.price_impact_ppm == 2_000
    assert whole.took_ms == 9


def test_quotes_that_are_too_long_to_keep_together_are_not() -> None:
    answers, ladders = halved()
    padded: dict[str, Any] = {"padding": "x" * (QUOTE_BYTES_MAX // 2)}
    long = [
        [Answer(one.venue, 1, one.result._replace(raw=padded)) for one in each if isinstance(one.result, Quote)]
        for each in ladders
    ]
    assert split(an_order(), answers, long) is None
