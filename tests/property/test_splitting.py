"""An order split over venues: nothing of it is lost or counted twice, and it never gives less than the best alone."""

from hypothesis import assume, given, strategies as st

from libs.events.model import Reason, RouteSelected
from libs.events.order import Order
from libs.events.retry import RetryPolicy
from libs.quoting.answer import Answer, NoQuote, Part, Quote
from libs.quoting.choice import decide
from libs.quoting.splitting import GAIN_PPM_MIN, rivals, shares, split
from libs.venues.book import quote_exact_in
from libs.venues.constant_product import ConstantProductPool
from libs.venues.errors import AmountTooSmall, InsufficientLiquidity
from services.executor.joining import least_of_legs
from tests.builders import NOW, SOL, USDC, a_request

POLICY = RetryPolicy(attempts_max=3, base_ms=100, cap_ms=1_000)


def a_pool(address: str, sol: int, usdc: int, fee_ppm: int) -> ConstantProductPool:
    return ConstantProductPool(address, SOL, USDC, sol, usdc, fee_ppm, 0)


def asked(pool: ConstantProductPool, amount_in: int, at_most: int) -> Answer:
    """`at_most`: what its venue takes at once."""
    try:
        trade = quote_exact_in(pool, SOL, amount_in, 0)
    except AmountTooSmall:
        return Answer(pool.address, 1, NoQuote(Reason.AMOUNT_TOO_SMALL, "too little"))
    except InsufficientLiquidity:
        return Answer(pool.address, 1, NoQuote(Reason.INSUFFICIENT_LIQUIDITY, "not enough"))
    if amount_in > at_most:
        return Answer(pool.address, 1, NoQuote(Reason.INSUFFICIENT_LIQUIDITY, "not enough"))
    impact = trade.price_impact_ppm
    return Answer(pool.address, 1, Quote(trade.amount_out, pool.address, trade.fee, SOL, 5_000, impact, {}))


def an_order(amount_in: int, slippage_bps: int) -> Order:
    _, made = a_request(4, amount_in=amount_in, slippage_bps=slippage_bps)
    return made.order.model_copy(update={"attempt": 1})


SOME = 10**12
prices = st.integers(SOME * 9 // 10, SOME * 11 // 10)
at_most = st.one_of(st.just(100 * SOME), st.integers(SOME // 100, SOME))
pools = st.lists(st.tuples(prices, prices, st.integers(0, 3_000), at_most), min_size=2, max_size=5)


@given(pools, st.integers(SOME // 100, SOME), st.integers(0, 10_000))
def test_a_split_is_the_whole_amount_over_other_pools_each_and_gives_more(
    made: list[tuple[int, int, int, int]], amount_in: int, slippage_bps: int
) -> None:
    order = an_order(amount_in, slippage_bps)
    venues = {f"v{at}": (a_pool(f"v{at}", sol, usdc, fee), most) for at, (sol, usdc, fee, most) in enumerate(made)}
    answers = [asked(pool, amount_in, most) for pool, most in venues.values()]
    able = rivals(order, answers, 10)
    assume(able)
    ladders = [
        [asked(venues[name][0], share, venues[name][1]) for share in shares(amount_in, first=not place)]
        for place, name in enumerate(able)
    ]
    found = split(order, answers, ladders)
    assume(found)
    assert found  # for the type checker
    whole = found.result
    assert isinstance(whole, Quote)
    assert sum(part.amount_in for part in whole.parts) == amount_in
    assert sum(part.share_bps for part in whole.parts) == 10_000
    assert len({part.quote.pool for part in whole.parts}) == len(whole.parts) > 1
    assert all(part.quote == asked(*_of(venues, part)).result for part in whole.parts)
    alone = max((answer.result.amount_out for answer in answers if isinstance(answer.result, Quote)), default=0)
    assert (whole.amount_out - alone) * 1_000_000 >= alone * GAIN_PPM_MIN
    event = decide(order, [*answers, found], now=NOW, fraction=0.5, policy=POLICY)
    assert isinstance(event, RouteSelected)
    assert [candidate.venue for candidate in event.candidates if candidate.outcome == "selected"] == [found.venue]
    least = least_of_legs(event.route)
    assert sum(least) == event.route.min_out
    assert all(0 <= one <= leg.amount_out for one, leg in zip(least, event.route.legs, strict=True))


def _of(venues: dict[str, tuple[ConstantProductPool, int]], part: Part) -> tuple[ConstantProductPool, int, int]:
    pool, most = venues[part.venue]
    return pool, part.amount_in, most


@given(st.integers(10, 10**18))
def test_shares_of_two_venues_make_the_whole(amount_in: int) -> None:
    first, other = shares(amount_in, first=True), shares(amount_in, first=False)
    assert all(first[count - 1] + other[9 - count] == amount_in for count in range(1, 10))
