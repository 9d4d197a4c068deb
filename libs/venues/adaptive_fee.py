"""Fees that rise with every group of ticks crossed and decay with time, as Orca Whirlpool computes them, bit for bit.

Raydium CLMM's dynamic fee has the same form. Sources: orca-so/whirlpools `manager/fee_rate_manager.rs`,
`state/oracle.rs`; rates are parts per million of the input, times seconds on the pool's chain.
"""

from dataclasses import dataclass
from typing import NamedTuple

from libs.venues.bin_math import BPS
from libs.venues.tick_math import TICK_MAX, Ladder, sqrt_price_at

FEE_PPM_MAX = 100_000
GROUP_SCALE = 10_000
CONTROL_SCALE = 100_000 * GROUP_SCALE**2
REFERENCE_AGE_MAX_S = 3_600


@dataclass(frozen=True, slots=True)
class TickFees:
    """A pool's fee parameters, named and scaled as on chain. `control` 0: always `fee_ppm`, whatever is crossed.

    `group_ticks`: what the rate is the same for; it divides the pool's tick spacing.
    """

    fee_ppm: int
    protocol_share_bps: int = 0
    control: int = 0
    group_ticks: int = 1
    filter_period_s: int = 30
    decay_period_s: int = 600
    reduction_bps: int = 500
    accumulator_max: int = 350_000
    major_swap_ticks: int = 64


class TickVolatility(NamedTuple):
    """What makes the fee rate rise and decay; 10000 is one group of ticks crossed."""

    accumulator: int = 0
    reference: int = 0
    group_reference: int = 0
    updated_s: int = 0
    major_swap_s: int = 0


def aged(volatility: TickVolatility, fees: TickFees, group: int, now_s: int) -> TickVolatility:
    """What a swap that begins in `group` at `now_s` starts from."""
    if now_s - volatility.updated_s <= REFERENCE_AGE_MAX_S:
        elapsed = now_s - max(volatility.updated_s, volatility.major_swap_s)
        if elapsed < fees.filter_period_s:
            return volatility
        if elapsed < fees.decay_period_s:
            reference = volatility.accumulator * fees.reduction_bps // BPS
            return TickVolatility(volatility.accumulator, reference, group, now_s, volatility.major_swap_s)
    return TickVolatility(volatility.accumulator, 0, group, now_s, volatility.major_swap_s)


def accumulated(volatility: TickVolatility, fees: TickFees, group: int) -> int:
    """The accumulator of a swap while it is in `group`."""
    crossed = abs(volatility.group_reference - group) * GROUP_SCALE
    return min(volatility.reference + crossed, fees.accumulator_max)


def fee_rate(fees: TickFees, accumulator: int) -> int:
    """The total fee rate at this volatility, at most 10 %."""
    adaptive = -(-fees.control * (accumulator * fees.group_ticks) ** 2 // CONTROL_SCALE)
    return min(fees.fee_ppm + adaptive, FEE_PPM_MAX)


def rate_ends_at(volatility: TickVolatility, fees: TickFees, group: int, sell_a: bool) -> int:
    """The tick up to which the rate stays what it is in `group`."""
    if fees.control:
        # Beyond so many groups from the reference the rate is at its most, and the programs take them in one step.
        rising = -(-(fees.accumulator_max - volatility.reference) // GROUP_SCALE)
        lowest, highest = volatility.group_reference - rising, volatility.group_reference + rising
        if sell_a and group >= lowest:
            return min(group, highest + 1) * fees.group_ticks
        if not sell_a and group <= highest:
            return (max(group, lowest - 1) + 1) * fees.group_ticks
    return -TICK_MAX if sell_a else TICK_MAX


def disturbed(
    volatility: TickVolatility, fees: TickFees, accumulator: int, prices: tuple[int, int], ladder: Ladder, now_s: int
) -> TickVolatility:
    """What a swap leaves to the next one. `prices`: the square roots before and after it."""
    low, high = sorted(prices)
    major = high >= low * sqrt_price_at(fees.major_swap_ticks, ladder) >> 64
    updated_s, major_swap_s = volatility.updated_s, now_s if major else volatility.major_swap_s
    return TickVolatility(accumulator, volatility.reference, volatility.group_reference, updated_s, major_swap_s)
