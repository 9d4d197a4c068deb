"""The best net output wins; every venue's part is told; who can never quote fails the order at once."""

from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given, strategies as st

from libs.events.model import AttemptFailed, OrderFailed, OrderOpened, Reason, RouteSelected, Terms
from libs.events.order import Order
from libs.events.retry import RetryPolicy
from libs.quoting.answer import Answer, NoQuote, Quote
from libs.quoting.choice import decide, fee_in_token_out, min_out
from libs.venues.tokens import TOKENS
from tests.builders import NOW, SOL, USDC, a_request

POLICY = RetryPolicy(attempts_max=3, base_ms=100, cap_ms=1_000)
BONK = TOKENS["BONK"].mint


def an_order(**changes: object) -> Order:
    _, snapshot = a_request(4)
    return snapshot.order.model_copy(update={"attempt": 1, **changes})


def offers(venue: str, amount_out: int, lamports: int = 5_000) -> Answer:
    return Answer(venue, 7, Quote(amount_out, f"{venue}-pool", 30, SOL, lamports, 120, {"outAmount": str(amount_out)}))


def declines(venue: str, reason: Reason, why: str = "because") -> Answer:
    return Answer(venue, 3, NoQuote(reason, why))


def decided(*answers: Answer, order: Order | None = None) -> RouteSelected | OrderOpened | AttemptFailed | OrderFailed:
    return decide(order or an_order(), answers, now=NOW, fraction=0.5, policy=POLICY)


def selected(*answers: Answer, order: Order | None = None) -> RouteSelected:
    event = decided(*answers, order=order)
    assert isinstance(event, RouteSelected)
    return event


def failure(*answers: Answer) -> AttemptFailed | OrderFailed:
    event = decided(*answers)
    assert isinstance(event, AttemptFailed | OrderFailed)
    return event


def test_the_best_output_wins_and_the_route_is_complete() -> None:
    event = selected(offers("raydium", 1_500_000_000), offers("meteora", 1_498_200_000))
    leg = event.route.legs[0]
    assert (leg.venue, leg.pool, leg.share_bps, leg.amount_in) == ("raydium", "raydium-pool", 10_000, 10 * 10**9)
    assert (leg.fee, leg.fee_mint, leg.quote) == (30, SOL, {"outAmount": "1500000000"})
    assert event.attempt == 1
    assert event.route.quoted_out == 1_500_000_000
    assert event.route.min_out == 1_492_500_000
    assert event.route.net_out == 1_500_000_000 - 750  # 5000 lamports at 150 USDC per SOL
    assert event.route.network_fee_lamports == 5_000


def test_every_venue_is_a_candidate_with_its_quote_and_why() -> None:
    event = selected(
        offers("meteora", 1_498_200_000),
        declines("orca", Reason.VENUES_UNAVAILABLE, "no answer within 1500 ms"),
        offers("raydium", 1_500_000_000),
    )
    told = {candidate.venue: (candidate.outcome, candidate.why) for candidate in event.candidates}
    assert told == {
        "meteora": ("lost", "0.12 % less than raydium"),
        "orca": ("failed", "no answer within 1500 ms"),
        "raydium": ("selected", "best net output of 2 quotes"),
    }
    meteora, orca, raydium = event.candidates
    assert (meteora.amount_out, meteora.net_out) == (1_498_200_000, 1_498_200_000 - 750)
    assert (raydium.price_impact_ppm, raydium.took_ms) == (120, 7)
    assert (orca.amount_out, orca.net_out, orca.took_ms) == (None, None, 3)


def test_a_cheaper_network_fee_can_win_against_a_better_gross_output() -> None:
    # Bought: SOL, so fees are lamports of the output itself.
    order = an_order(mint_in=USDC, mint_out=SOL)
    event = selected(offers("a", 1_000_000, lamports=50_000), offers("b", 990_000), order=order)
    assert event.route.legs[0].venue == "b"
    assert event.route.net_out == 985_000
    assert event.route.min_out == 985_050  # slippage applies to what the swap gives, not to the net


def test_the_best_of_those_that_give_what_is_wanted_wins() -> None:
    order = an_order(mint_in=USDC, mint_out=SOL, terms=Terms(min_out=1_000_000, limit_price="1"))
    event = selected(offers("a", 1_000_000, lamports=50_000), offers("b", 990_000), order=order)
    assert event.route.legs[0].venue == "a"
    assert event.route.min_out == 1_000_000
    assert [(candidate.outcome, candidate.why) for candidate in event.candidates] == [
        ("selected", "the only one of 2 quotes that gives what is wanted"),
        ("lost", "less than the 0.001 SOL that are wanted"),
    ]


def test_a_limit_order_that_waits_tells_what_it_wants_what_it_could_have_and_until_when() -> None:
    order = an_order(terms=Terms(min_out=1_600_000_000, limit_price="160"), expires_at=NOW + timedelta(seconds=90))
    event = decided(offers("meteora", 1_498_200_000), offers("raydium", 1_500_000_000), order=order)
    assert event == OrderOpened(
        attempt=1,
        wanted_out=1_600_000_000,
        best_out=1_500_000_000,
        delay_ms=90_000,
        until=order.expires_at,
    )


@pytest.mark.parametrize(
    ("mint", "quoted", "wanted"),
    [(USDC, "302.5 USDC", "400 USDC"), ("of tomorrow", "302500000 base units", "400000000 base units")],
)
def test_what_was_quoted_and_what_is_wanted_are_told_as_clients_write_amounts(
    mint: str, quoted: str, wanted: str
) -> None:
    order = an_order(mint_out=mint, terms=Terms(min_out=400_000_000))
    failed = decided(offers("a", 302_500_000), order=order)
    assert isinstance(failed, AttemptFailed)
    assert failed.detail == f"a, the best, quotes {quoted}; at least {wanted} are wanted"


def test_ties_go_to_the_first_by_name_whatever_the_order_of_answers() -> None:
    for answers in permutations([offers("c", 100), offers("a", 100), offers("b", 100)]):
        event = selected(*answers)
        assert event.route.legs[0].venue == "a"
        assert {c.why for c in event.candidates if c.outcome == "lost"} == {"equal to a, which comes first by name"}


def test_a_tiny_difference_is_told_as_tiny() -> None:
    event = selected(offers("a", 1_500_000_000), offers("b", 1_499_999_999))
    assert event.candidates[1].why == "under 0.01 % less than a"


def test_an_output_below_its_fee_is_ranked_but_never_negative() -> None:
    order = an_order(mint_in=USDC, mint_out=SOL)
    event = selected(offers("a", 4_000), offers("b", 3_000), order=order)
    assert (event.route.legs[0].venue, event.route.net_out) == ("a", 0)
    assert event.candidates[1].why == "1000 base units less than a"
    assert [candidate.net_out for candidate in event.candidates] == [0, 0]


def test_an_only_quote_says_so() -> None:
    event = selected(offers("a", 5), declines("b", Reason.NO_ROUTE))
    assert event.candidates[0].why == "the only quote"


@pytest.mark.parametrize(
    ("reasons", "reason"),
    [
        ([Reason.NO_ROUTE, Reason.NO_ROUTE], Reason.NO_ROUTE),
        ([Reason.NO_ROUTE, Reason.AMOUNT_TOO_SMALL], Reason.AMOUNT_TOO_SMALL),
        ([Reason.AMOUNT_TOO_SMALL, Reason.AMOUNT_TOO_SMALL], Reason.AMOUNT_TOO_SMALL),
        ([Reason.UNKNOWN_TOKEN, Reason.UNKNOWN_TOKEN], Reason.UNKNOWN_TOKEN),
        ([Reason.UNKNOWN_TOKEN, Reason.NO_ROUTE], Reason.NO_ROUTE),
    ],
)
def test_when_every_answer_is_final_the_order_fails_at_once(reasons: list[Reason], reason: Reason) -> None:
    event = failure(*(declines(f"v{number}", given) for number, given in enumerate(reasons)))
    assert isinstance(event, OrderFailed)
    assert (event.stage, event.reason) == ("routing", reason)


@pytest.mark.parametrize("final", [Reason.NO_ROUTE, Reason.AMOUNT_TOO_SMALL, Reason.UNKNOWN_TOKEN])
@pytest.mark.parametrize("transient", [Reason.VENUES_UNAVAILABLE, Reason.VENUE_REFUSED, Reason.INSUFFICIENT_LIQUIDITY])
def test_one_venue_that_may_yet_quote_keeps_the_order_alive(final: Reason, transient: Reason) -> None:
    event = failure(declines("a", final), declines("b", transient))
    assert isinstance(event, AttemptFailed)
    assert event.reason is transient


def test_the_detail_names_every_venue() -> None:
    event = failure(declines("a", Reason.VENUES_UNAVAILABLE, "HTTP 503"), declines("b", Reason.NO_ROUTE, "no pool"))
    assert event.detail == "a: HTTP 503; b: no pool"


@pytest.mark.parametrize("reason", [Reason.VENUES_UNAVAILABLE, Reason.VENUE_REFUSED, Reason.INSUFFICIENT_LIQUIDITY])
def test_a_limit_order_that_nobody_quotes_is_tried_again_for_a_while_and_then_waits(reason: Reason) -> None:
    terms = Terms(min_out=1_600_000_000, limit_price="160")
    order = an_order(terms=terms, expires_at=NOW + timedelta(seconds=90), attempt=POLICY.attempts_max - 1)
    assert isinstance(decided(declines("a", reason), order=order), AttemptFailed)
    last = order.model_copy(update={"attempt": POLICY.attempts_max})
    assert decided(declines("a", reason), order=last) == OrderOpened(
        attempt=POLICY.attempts_max, wanted_out=1_600_000_000, delay_ms=90_000, until=order.expires_at
    )
    assert isinstance(decided(declines("a", Reason.NO_ROUTE), order=last), OrderFailed), "waiting cannot help"
    now_or_never = last.model_copy(update={"terms": terms.model_copy(update={"time_in_force": "IOC"})})
    assert isinstance(decided(declines("a", reason), order=now_or_never), OrderFailed)


def test_no_venue_at_all_is_a_failed_attempt() -> None:
    assert failure().reason is Reason.VENUES_UNAVAILABLE


@given(st.integers(0, 2**64 - 1), st.integers(0, 10_000))
def test_the_minimum_is_rounded_down_and_never_above_the_quote(quoted: int, bps: int) -> None:
    least = min_out(quoted, bps)
    assert 0 <= least <= quoted
    assert least * 10_000 <= quoted * (10_000 - bps) < (least + 1) * 10_000


def test_the_minimum_of_no_slippage_is_the_quote_and_of_all_is_nothing() -> None:
    assert min_out(12_345, 0) == 12_345
    assert min_out(12_345, 10_000) == 0
    assert min_out(1, 50) == 0


def test_the_network_fee_is_priced_by_the_side_that_is_sol() -> None:
    assert fee_in_token_out(5_000, USDC, SOL, 10**6, 10**7) == 5_000
    assert fee_in_token_out(5_000, SOL, USDC, 10**9, 150 * 10**6) == 750
    assert fee_in_token_out(5_000, SOL, USDC, 3, 1) == 1_667  # rounded up: a cost is never told too small
    assert fee_in_token_out(5_000, USDC, BONK, 10**6, 10**9) == 0
