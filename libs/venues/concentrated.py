"""Concentrated liquidity as Orca Whirlpool and Raydium CLMM compute it, bit for bit.

Liquidity is constant between two initialized ticks. Selling A walks the price (B per A) down, selling B walks it up,
and each initialized tick on the way adds its net liquidity (upwards) or takes it (downwards).
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from libs.venues.adaptive_fee import TickFees, TickVolatility, accumulated, aged, disturbed, fee_rate, rate_ends_at
from libs.venues.bin_math import BPS
from libs.venues.errors import AmountTooSmall, InsufficientLiquidity, MintNotInPool
from libs.venues.swap_math import Step, step_exact_in, step_exact_out
from libs.venues.tick_math import TICK_MAX, Ladder, sqrt_price_at, tick_at
from libs.venues.tokens import U64_MAX

ARRAY_TICKS = 88
ARRAYS_PER_SWAP = 3


@dataclass(frozen=True, slots=True)
class ConcentratedPool:
    """`ticks`: (tick, net liquidity) of the initialized ones, ascending. `sqrt_price` is Q64.64.

    `tick` is that of the price, or the one below where a tick was reached from above: it is crossed already.
    """

    address: str
    mint_a: str
    mint_b: str
    tick_spacing: int
    sqrt_price: int
    tick: int
    liquidity: int
    ticks: tuple[tuple[int, int], ...]
    fees: TickFees
    volatility: TickVolatility
    ladder: Ladder = "orca"


class Crossing(NamedTuple):
    """A trade over ticks, with the pool's state afterwards. `amount_in` includes `fee`, `fee` the protocol's."""

    amount_in: int
    amount_out: int
    fee: int
    protocol_fee: int
    sqrt_price: int
    tick: int
    liquidity: int
    volatility: TickVolatility


def cross_exact_in(pool: ConcentratedPool, mint_in: str, amount_in: int, now_s: int) -> Crossing:
    """Sell all of `amount_in` of `mint_in`, tick by tick.

    Raises:
        AmountTooSmall: nothing would come out.
        InsufficientLiquidity: the ticks one swap may reach do not hold enough.
        MintNotInPool: `mint_in` is neither side.
    """
    return _cross(pool, sells_a(pool, mint_in), amount_in, now_s, exact_in=True)


def cross_exact_out(pool: ConcentratedPool, mint_in: str, amount_out: int, now_s: int) -> Crossing:
    """Buy exactly `amount_out` of the other side, paid in `mint_in`. Errors as `cross_exact_in`."""
    return _cross(pool, sells_a(pool, mint_in), amount_out, now_s, exact_in=False)


def apply(pool: ConcentratedPool, crossing: Crossing) -> ConcentratedPool:
    """The pool after `crossing`, which was made on it. Fees are not part of its liquidity."""
    # Spelled out: `replace` takes three times as long, and a chain does this for every swap.
    return ConcentratedPool(
        pool.address, pool.mint_a, pool.mint_b, pool.tick_spacing, crossing.sqrt_price, crossing.tick,
        crossing.liquidity, pool.ticks, pool.fees, crossing.volatility, pool.ladder,
    )  # fmt: skip


def sells_a(pool: ConcentratedPool, mint_in: str) -> bool:
    """Whether `mint_in` is the pool's A (and so B comes out)."""
    if mint_in in (pool.mint_a, pool.mint_b):
        return mint_in == pool.mint_a
    raise MintNotInPool(f"{mint_in} is not traded in {pool.address}")


def _cross(pool: ConcentratedPool, sell_a: bool, amount: int, now_s: int, *, exact_in: bool) -> Crossing:
    if amount <= 0:
        raise AmountTooSmall("the amount must be above zero")
    fees, ladder, step_exact = pool.fees, pool.ladder, step_exact_in if exact_in else step_exact_out
    group = pool.tick // fees.group_ticks
    volatility = aged(pool.volatility, fees, group, now_s)
    end = _end(pool, sell_a)
    end_price = sqrt_price_at(end, ladder)
    ahead = _initialized_ahead(pool, sell_a, end)
    sqrt_price, tick, liquidity = pool.sqrt_price, pool.tick, pool.liquidity
    next_tick, net = next(ahead)
    steps: list[Step] = []
    left, accumulator = amount, 0
    while left > 0:
        if sqrt_price == end_price:
            raise InsufficientLiquidity("the ticks that one swap may reach do not hold enough")
        accumulator = accumulated(volatility, fees, group)
        rate_end = rate_ends_at(volatility, fees, group, sell_a)
        stop = max(next_tick, rate_end) if sell_a else min(next_tick, rate_end)
        target = sqrt_price_at(stop, ladder)
        step = step_exact(sqrt_price, target, liquidity, left, fee_rate(fees, accumulator), sell_a)
        steps.append(step)
        left -= step.amount_in + step.fee if exact_in else step.amount_out
        if step.sqrt_price == target:
            tick, group = stop, stop // fees.group_ticks - sell_a
            if stop == next_tick:
                tick, liquidity = stop - sell_a, liquidity + net
                next_tick, net = next(ahead)
        elif step.sqrt_price != sqrt_price:
            tick = tick_at(step.sqrt_price, ladder)
        sqrt_price = step.sqrt_price
    after = disturbed(volatility, fees, accumulator, (pool.sqrt_price, sqrt_price), ladder, now_s)
    return _summed(steps, fees, sqrt_price, tick, liquidity, after)


def _summed(
    steps: list[Step], fees: TickFees, sqrt_price: int, tick: int, liquidity: int, volatility: TickVolatility
) -> Crossing:
    fee = sum(step.fee for step in steps)
    amount_in = sum(step.amount_in for step in steps) + fee
    amount_out = sum(step.amount_out for step in steps)
    if amount_out <= 0:
        raise AmountTooSmall(f"{amount_in} buys nothing here")
    if max(amount_in, amount_out) > U64_MAX:
        raise InsufficientLiquidity("an amount would leave 64 bits")
    protocol_fee = sum(step.fee * fees.protocol_share_bps // BPS for step in steps)
    return Crossing(amount_in, amount_out, fee, protocol_fee, sqrt_price, tick, liquidity, volatility)


def _end(pool: ConcentratedPool, sell_a: bool) -> int:
    """The furthest tick of one swap: programs are given three arrays of ticks, the first one that of the price."""
    width = ARRAY_TICKS * pool.tick_spacing
    start = pool.tick // width * width
    if sell_a:
        return max(start - (ARRAYS_PER_SWAP - 1) * width, -TICK_MAX)
    return min(start + ARRAYS_PER_SWAP * width - 1, TICK_MAX)


def _initialized_ahead(pool: ConcentratedPool, sell_a: bool, end: int) -> Iterator[tuple[int, int]]:
    """(tick, what crossing it adds to the liquidity) of the initialized ticks on the way, and `end` for ever."""
    above = bisect_right(pool.ticks, pool.tick, key=itemgetter(0))
    for tick, net in reversed(pool.ticks[:above]) if sell_a else pool.ticks[above:]:
        if tick < end if sell_a else tick > end:
            break
        yield tick, -net if sell_a else net
    while True:
        yield end, 0
