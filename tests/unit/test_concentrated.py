"""Where one swap over ticks ends: exactly on a tick, at the last it may reach, or beyond what there is."""

from dataclasses import replace

import pytest

from libs.venues.adaptive_fee import TickFees, TickVolatility
from libs.venues.book import quote_exact_in, swap
from libs.venues.concentrated import ConcentratedPool, apply, cross_exact_in, cross_exact_out
from libs.venues.errors import AmountTooSmall, InsufficientLiquidity, MintNotInPool
from libs.venues.tick_math import TICK_MAX, sqrt_price_at

WIDE, NARROW = 10**12, 10**13


def a_pool(fee_ppm: int = 3_000) -> ConcentratedPool:
    """A wide range with a narrow one in it, from tick -8 to 16."""
    ticks = ((-800, WIDE), (-8, NARROW), (16, -NARROW), (800, -WIDE))
    price = sqrt_price_at(4, "orca")
    fees = TickFees(fee_ppm, protocol_share_bps=3_333)
    return ConcentratedPool("pool", "A", "B", 8, price, 4, WIDE + NARROW, ticks, fees, TickVolatility())


def all_up_to(end: int) -> int:
    """What the pool gives before its price is that of tick `end`."""
    here, there, liquidity = sqrt_price_at(4, "orca"), sqrt_price_at(end, "orca"), WIDE + NARROW
    return liquidity * (here - there) >> 64 if end < 4 else (liquidity << 64) * (there - here) // (there * here)


@pytest.mark.parametrize(("mint_in", "end", "tick"), [("A", -8, -9), ("B", 16, 16)])
def test_buying_all_there_is_up_to_a_tick_crosses_it(mint_in: str, end: int, tick: int) -> None:
    bought = cross_exact_out(a_pool(), mint_in, all_up_to(end), 0)
    assert (bought.sqrt_price, bought.tick, bought.liquidity) == (sqrt_price_at(end, "orca"), tick, WIDE)
    short = cross_exact_out(a_pool(), mint_in, all_up_to(end) - 1, 0)
    assert short.liquidity == WIDE + NARROW
    paid = cross_exact_in(a_pool(), mint_in, bought.amount_in, 0)
    assert paid == bought


@pytest.mark.parametrize(("mint_in", "end", "back"), [("A", -8, -8), ("B", 16, 15)])
def test_a_tick_is_crossed_back_from_the_price_it_stands_for(mint_in: str, end: int, back: int) -> None:
    pool = apply(a_pool(), cross_exact_out(a_pool(), mint_in, all_up_to(end), 0))
    other = "B" if mint_in == "A" else "A"
    after = cross_exact_in(pool, other, 10, 0)
    assert (after.tick, after.liquidity) == (back, WIDE + NARROW)
    further = cross_exact_in(pool, mint_in, 10_000_000, 0)
    assert further.liquidity == WIDE


@pytest.mark.parametrize(("mint_in", "start", "last"), [("A", 0, -2 * 88), ("B", 87, 3 * 88 - 1)])
def test_a_swap_reaches_three_arrays_of_ticks_and_no_further(mint_in: str, start: int, last: int) -> None:
    price, liquidity = sqrt_price_at(start, "orca"), 10**12
    ticks = ((last, liquidity if mint_in == "A" else -liquidity),)
    pool = ConcentratedPool("pool", "A", "B", 1, price, start, liquidity, ticks, TickFees(0), TickVolatility())
    end = sqrt_price_at(last, "orca")
    there_is = liquidity * (price - end) >> 64 if mint_in == "A" else (liquidity << 64) * (end - price) // (end * price)
    ended = cross_exact_out(pool, mint_in, there_is, 0)
    assert (ended.sqrt_price, ended.tick, ended.liquidity) == (end, last - (mint_in == "A"), 0)
    with pytest.raises(InsufficientLiquidity):
        cross_exact_out(replace(pool, ticks=()), mint_in, there_is + 1, 0)


@pytest.mark.parametrize(
    ("mint_in", "last", "near"), [("A", -TICK_MAX, 5_000 - TICK_MAX), ("B", TICK_MAX, TICK_MAX - 5_000)]
)
def test_trading_ends_at_the_last_price_there_is(mint_in: str, last: int, near: int) -> None:
    def pool_at(tick: int) -> ConcentratedPool:
        price = sqrt_price_at(tick, "orca")
        return ConcentratedPool("pool", "A", "B", 64, price, tick, 10**18, (), TickFees(0), TickVolatility())

    assert cross_exact_out(pool_at(near), mint_in, 1, 0).amount_out == 1
    with pytest.raises(InsufficientLiquidity):
        cross_exact_out(pool_at(last), mint_in, 1, 0)


def test_what_cannot_be_traded_says_why() -> None:
    pool = a_pool()
    for amount in (0, -1, 1):
        with pytest.raises(AmountTooSmall):
            cross_exact_in(pool, "A", amount, 0)
    with pytest.raises(MintNotInPool):
        cross_exact_in(pool, "C", 1_000, 0)
    dear = ConcentratedPool(
        "pool", "A", "B", 64, sqrt_price_at(400_000, "orca"), 400_000, 10**20, (), TickFees(0), TickVolatility()
    )
    with pytest.raises(InsufficientLiquidity):
        cross_exact_out(dear, "B", 10**9, 0)


def test_the_fee_is_taken_from_the_input_and_shared_with_the_protocol() -> None:
    sold = cross_exact_in(a_pool(), "A", 1_000_000, 0)
    free = cross_exact_in(a_pool(fee_ppm=0), "A", 997_000, 0)
    assert (sold.fee, sold.protocol_fee) == (3_000, 999)
    assert (sold.amount_out, sold.sqrt_price) == (free.amount_out, free.sqrt_price)


@pytest.mark.parametrize("mint_in", ["A", "B"])
def test_the_impact_of_a_trade_is_told_apart_from_its_fee(mint_in: str) -> None:
    pool = a_pool()
    small, large = (quote_exact_in(pool, mint_in, amount).price_impact_ppm for amount in (10**6, 5 * 10**9))
    assert small <= 2
    assert 430 < large < 480
    after, _ = swap(pool, mint_in, 5 * 10**9)
    assert quote_exact_in(after, mint_in, 10**6).amount_out < quote_exact_in(pool, mint_in, 10**6).amount_out
