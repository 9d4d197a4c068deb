"""The fee of a concentrated pool rises with what is crossed, and is forgotten with time, as on chain."""

import pytest

from libs.venues.adaptive_fee import TickFees, TickVolatility, accumulated, aged, disturbed, fee_rate, rate_ends_at
from libs.venues.bin_math import ONE
from libs.venues.concentrated import ConcentratedPool, apply, cross_exact_in
from libs.venues.tick_math import TICK_MAX, sqrt_price_at

FEES = TickFees(1_000, control=5_000, group_ticks=64, accumulator_max=30_000)
STIRRED = TickVolatility(accumulator=20_000, reference=10_000, group_reference=7, updated_s=1_000)


@pytest.mark.parametrize(
    ("elapsed_s", "reference", "group"),
    [(0, 10_000, 7), (29, 10_000, 7), (30, 1_000, 9), (599, 1_000, 9), (600, 0, 9), (3_601, 0, 9)],
)
def test_references_hold_for_a_moment_then_decay_then_are_forgotten(elapsed_s: int, reference: int, group: int) -> None:
    started = aged(STIRRED, FEES, 9, 1_000 + elapsed_s)
    assert (started.reference, started.group_reference) == (reference, group)
    assert started.updated_s == (1_000 if elapsed_s < 30 else 1_000 + elapsed_s)


def test_large_swaps_keep_references_for_an_hour_at_most() -> None:
    for now_s, group in ((4_600, 7), (4_601, 9)):
        assert aged(STIRRED._replace(major_swap_s=now_s - 1), FEES, 9, now_s).group_reference == group


def test_only_a_swap_that_moves_the_price_far_is_a_large_one() -> None:
    far = sqrt_price_at(FEES.major_swap_ticks, "orca")
    for prices, seen_s in (((ONE, far), 9), ((far, ONE), 9), ((ONE, far - 1), 5)):
        assert disturbed(STIRRED._replace(major_swap_s=5), FEES, 1, prices, "orca", 9).major_swap_s == seen_s


def test_the_rate_rises_with_each_group_up_to_its_most() -> None:
    rates = [fee_rate(FEES, accumulated(TickVolatility(), FEES, group)) for group in range(-5, 6)]
    assert rates == [2_844, 2_844, 2_844, 1_820, 1_205, 1_000, 1_205, 1_820, 2_844, 2_844, 2_844]
    assert fee_rate(TickFees(1_000, control=10**9, group_ticks=64), 350_000) == 100_000


def test_a_rate_holds_for_its_group_and_beyond_the_last_one_that_raises_it() -> None:
    ends = {
        group: [rate_ends_at(TickVolatility(), FEES, group, sell_a) // 64 for sell_a in (True, False)]
        for group in range(-5, 6)
    }
    lowest, highest = -TICK_MAX // 64, TICK_MAX // 64
    assert ends == {
        -5: [lowest, -3], -4: [lowest, -3], -3: [-3, -2], -2: [-2, -1], -1: [-1, 0], 0: [0, 1],
        1: [1, 2], 2: [2, 3], 3: [3, 4], 4: [4, highest], 5: [4, highest],
    }  # fmt: skip
    assert rate_ends_at(TickVolatility(), TickFees(1_000), 0, sell_a=False) == TICK_MAX


def test_the_next_swap_pays_for_what_the_last_one_stirred() -> None:
    pool = ConcentratedPool("pool", "A", "B", 64, ONE, 0, 10**9, (), FEES, TickVolatility())
    stirred = apply(pool, cross_exact_in(pool, "A", 10**7, 1_000))
    fees = [cross_exact_in(stirred, "A", 10**5, now_s).fee for now_s in (1_000, 1_030, 1_600)]
    assert fees[0] > fees[1] > fees[2] == 100
