"""Whatever is traded over ticks: makers can be paid out, liquidity is that of their ranges, nothing is for free."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import assume, example, given, strategies as st

from libs.venues.bin_math import ONE
from libs.venues.book import swap
from libs.venues.concentrated import ConcentratedPool, apply, cross_exact_in, cross_exact_out
from libs.venues.errors import InsufficientLiquidity, VenueError
from libs.venues.tick_math import TICK_MAX, Ladder, sqrt_price_at, tick_at
from tests.property.ticks import LADDERS, concentrated_pools, liquidity_at

NOW_S = 1_010

amounts = st.integers(1, 10**12)
directions = st.booleans()
ladders = st.sampled_from(LADDERS)
ticks = st.integers(-TICK_MAX, TICK_MAX - 1)


def mint(first: bool) -> str:
    return "A" if first else "B"


def owed(pool: ConcentratedPool) -> tuple[Fraction, Fraction]:
    """(A, B) that all ranges are worth at the pool's price, without any rounding."""
    owed_a = owed_b = Fraction(0)
    for (low, _), (high, _) in pairwise(pool.ticks):
        liquidity = liquidity_at(pool.ticks, low)
        bottom, top = sqrt_price_at(low, pool.ladder), sqrt_price_at(high, pool.ladder)
        price = min(max(pool.sqrt_price, bottom), top)
        owed_a += Fraction(liquidity * ONE * (top - price), top * price)
        owed_b += Fraction(liquidity * (price - bottom), ONE)
    return owed_a, owed_b


@given(concentrated_pools(), st.lists(st.tuples(directions, amounts, st.booleans()), max_size=6))
def test_the_makers_can_always_be_paid_what_their_ranges_are_worth(
    pool: ConcentratedPool, trades: list[tuple[bool, int, bool]]
) -> None:
    held_a, held_b = owed(pool)
    for first, amount, exact_in in trades:
        try:
            crossing = (cross_exact_in if exact_in else cross_exact_out)(pool, mint(first), amount, NOW_S)
        except VenueError:
            continue
        pool = apply(pool, crossing)
        into, out = crossing.amount_in - crossing.fee, crossing.amount_out
        held_a, held_b = (held_a + into, held_b - out) if first else (held_a - out, held_b + into)
        owed_a, owed_b = owed(pool)
        assert held_a >= owed_a
        assert held_b >= owed_b


@given(concentrated_pools(), st.lists(st.tuples(directions, amounts), max_size=6))
def test_liquidity_is_that_of_the_ranges_around_the_price(
    pool: ConcentratedPool, trades: list[tuple[bool, int]]
) -> None:
    for first, amount in trades:
        before = pool.sqrt_price
        try:
            after, _ = swap(pool, mint(first), amount, NOW_S)
        except VenueError:
            continue
        assert isinstance(after, ConcentratedPool)
        pool = after
        assert pool.liquidity == liquidity_at(pool.ticks, pool.tick) >= 0
        assert pool.sqrt_price <= before if first else pool.sqrt_price >= before
        assert sqrt_price_at(pool.tick, pool.ladder) <= pool.sqrt_price <= sqrt_price_at(pool.tick + 1, pool.ladder)


@given(concentrated_pools(), directions, amounts)
def test_crossing_ticks_back_restores_the_liquidity(pool: ConcentratedPool, first: bool, amount: int) -> None:
    try:
        there = cross_exact_in(pool, mint(first), amount, NOW_S)
        away = apply(pool, there)
        back = apply(away, cross_exact_out(away, mint(not first), there.amount_in - there.fee, NOW_S))
    except VenueError:
        return
    assume(back.tick == pool.tick)
    assert back.liquidity == pool.liquidity


@given(concentrated_pools(), directions, amounts, amounts)
def test_two_swaps_never_buy_more_than_one_of_both(pool: ConcentratedPool, first: bool, one: int, other: int) -> None:
    try:
        whole = cross_exact_in(pool, mint(first), one + other, NOW_S)
        half = cross_exact_in(pool, mint(first), one, NOW_S)
        rest = cross_exact_in(apply(pool, half), mint(first), other, NOW_S)
    except VenueError:
        return
    assert half.amount_out + rest.amount_out <= whole.amount_out


@given(concentrated_pools(), directions, amounts)
def test_the_fee_is_part_of_what_is_paid(pool: ConcentratedPool, first: bool, amount: int) -> None:
    try:
        crossing = cross_exact_in(pool, mint(first), amount, NOW_S)
    except VenueError:
        return
    assert crossing.amount_in == amount
    assert crossing.fee * 1_000_000 >= amount * pool.fees.fee_ppm
    assert 0 <= crossing.protocol_fee <= crossing.fee < amount


@given(ticks, ladders, st.data())
@example(-TICK_MAX, "orca", None)
@example(TICK_MAX - 1, "raydium", None)
def test_a_price_belongs_to_the_greatest_tick_not_above_it(
    tick: int, ladder: Ladder, data: st.DataObject | None
) -> None:
    low, high = sqrt_price_at(tick, ladder), sqrt_price_at(tick + 1, ladder)
    between = data.draw(st.integers(low, high - 1)) if data else low
    assert low < high
    assert [tick_at(price, ladder) for price in (low, between, high - 1, high)] == [tick, tick, tick, tick + 1]


@pytest.mark.parametrize("ladder", LADDERS)
def test_beyond_the_last_tick_there_is_no_price(ladder: Ladder) -> None:
    for tick in (-TICK_MAX - 1, TICK_MAX + 1):
        with pytest.raises(InsufficientLiquidity):
            sqrt_price_at(tick, ladder)
    for price in (sqrt_price_at(-TICK_MAX, ladder) - 1, sqrt_price_at(TICK_MAX, ladder) + 1):
        with pytest.raises(InsufficientLiquidity):
            tick_at(price, ladder)
