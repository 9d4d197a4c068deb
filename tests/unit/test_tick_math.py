"""The constants the prices of ticks are made of: Orca's are exact but for truncation, Raydium's nearly."""

from math import isqrt

import pytest

from libs.venues.bin_math import U128_MAX
from libs.venues.tick_math import TICK_MAX, sqrt_price_at, tick_at

POWERS = [2**place for place in range(19)]


@pytest.mark.parametrize("power", POWERS[:-1])  # the last one takes seconds, and is in the price of the lowest tick
def test_orcas_constants_are_the_truncated_powers(power: int) -> None:
    assert sqrt_price_at(-power, "orca") == isqrt((10_000**power << 128) // 10_001**power)
    assert sqrt_price_at(power, "orca") == isqrt((10_001**power << 128) // 10_000**power)


@pytest.mark.parametrize("power", POWERS)
def test_raydiums_are_near_them_and_inverted_above(power: int) -> None:
    below, exact = sqrt_price_at(-power, "raydium"), sqrt_price_at(-power, "orca")
    assert abs(below - exact) * 10**9 < below
    assert (below == exact) == (power == POWERS[-1])
    assert sqrt_price_at(power, "raydium") == U128_MAX // below


def test_ladders_begin_at_one_and_end_where_the_programs_do() -> None:
    assert sqrt_price_at(0, "orca") == sqrt_price_at(0, "raydium") == 2**64
    assert sqrt_price_at(-TICK_MAX, "orca") == sqrt_price_at(-TICK_MAX, "raydium") == 4_295_048_016
    assert tick_at(sqrt_price_at(TICK_MAX, "orca"), "orca") == TICK_MAX
    assert tick_at(sqrt_price_at(TICK_MAX, "raydium"), "raydium") == TICK_MAX
