"""Liquidity bins as Meteora DLMM computes them, bit for bit.

Inside a bin the price (Y per X, Q64.64) is constant. Selling X walks the active bin down, selling Y walks it up;
the fee rate rises with every bin crossed and decays with time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from libs.venues.bin_math import BPS, bin_price, fee_of_gross, fee_on_net, input_for, output_for
from libs.venues.errors import AmountTooSmall, InsufficientLiquidity, MintNotInPool
from libs.venues.tokens import U64_MAX

FEE_RATE_MAX = 100_000_000
VARIABLE_FEE_SCALE = 100_000_000_000


@dataclass(frozen=True, slots=True)
class BinFees:
    """A pool's fee parameters, named and scaled as on chain. `fee_on_y`: always charged in Y, else on the input."""

    base_factor: int
    base_fee_power: int = 0
    variable_fee_control: int = 0
    filter_period_s: int = 30
    decay_period_s: int = 600
    reduction_bps: int = 5_000
    accumulator_max: int = 150_000
    protocol_share_bps: int = 0
    fee_on_y: bool = False


class Volatility(NamedTuple):
    """What makes the fee rate rise and decay; 10000 is one bin crossed."""

    accumulator: int = 0
    reference: int = 0
    index_reference: int = 0
    updated_s: int = 0


@dataclass(frozen=True, slots=True)
class BinPool:
    """`bins` maps a bin's id to its (amount of X, amount of Y); absent means empty. Never mutated in place."""

    address: str
    mint_x: str
    mint_y: str
    bin_step: int
    active_id: int
    bins: Mapping[int, tuple[int, int]]
    fees: BinFees
    volatility: Volatility
    min_bin_id: int
    max_bin_id: int


class Fill(NamedTuple):
    """What one bin takes (`into`, without fee) and gives (`gross_out`, before a fee on the output)."""

    bin_id: int
    into: int
    gross_out: int
    fee: int


class Walk(NamedTuple):
    """A trade over bins. `amount_in` includes a fee on the input, `amount_out` is after a fee on the output."""

    amount_in: int
    amount_out: int
    fee: int
    protocol_fee: int
    fee_rate: int
    fills: tuple[Fill, ...]
    volatility: Volatility


def walk_exact_in(pool: BinPool, mint_in: str, amount_in: int, now_s: int) -> Walk:
    """Fill `amount_in` of `mint_in`, bin by bin.

    Raises:
        AmountTooSmall: nothing would come out.
        InsufficientLiquidity: the bins in this direction do not hold enough.
        MintNotInPool: `mint_in` is neither side.
    """
    return _walk(pool, sells_x(pool, mint_in), amount_in, now_s, exact_in=True)


def walk_exact_out(pool: BinPool, mint_in: str, amount_out: int, now_s: int) -> Walk:
    """Fill exactly `amount_out` of the other side, paid in `mint_in`. Errors as `walk_exact_in`."""
    return _walk(pool, sells_x(pool, mint_in), amount_out, now_s, exact_in=False)


def apply(pool: BinPool, mint_in: str, walk: Walk) -> BinPool:
    """The pool after `walk`, which was made on it. Fees leave the bins."""
    bins = dict(pool.bins)
    sign = 1 if sells_x(pool, mint_in) else -1
    for fill in walk.fills:
        x, y = bins[fill.bin_id]
        into, out = (fill.into, -fill.gross_out) if sign > 0 else (-fill.gross_out, fill.into)
        bins[fill.bin_id] = (x + into, y + out)
        if max(bins[fill.bin_id]) > U64_MAX:
            raise InsufficientLiquidity("the bin's reserve would leave 64 bits")
    # Spelled out: `replace` takes three times as long, and a chain does this for every swap.
    return BinPool(
        pool.address, pool.mint_x, pool.mint_y, pool.bin_step, walk.fills[-1].bin_id, bins, pool.fees,
        walk.volatility, pool.min_bin_id, pool.max_bin_id,
    )  # fmt: skip


def sells_x(pool: BinPool, mint_in: str) -> bool:
    """Whether `mint_in` is the pool's X (and so Y comes out)."""
    if mint_in in (pool.mint_x, pool.mint_y):
        return mint_in == pool.mint_x
    raise MintNotInPool(f"{mint_in} is not traded in {pool.address}")


def _walk(pool: BinPool, sell_x: bool, amount: int, now_s: int, *, exact_in: bool) -> Walk:
    if amount <= 0:
        raise AmountTooSmall("the amount must be above zero")
    fees, fee_on_output = pool.fees, pool.fees.fee_on_y and sell_x
    reference, index_reference = _references(pool, now_s)
    fill_bin = _fill_exact_in if exact_in else _fill_exact_out
    fills: list[Fill] = []
    left, bin_id, accumulator, rate, protocol_fee = amount, pool.active_id, 0, 0, 0
    while left > 0:
        bin_id, reserve = _next_filled(pool, bin_id, sell_x)
        crossed = abs(index_reference - bin_id) * BPS
        accumulator = min(reference + crossed, fees.accumulator_max)
        rate = fee_rate(pool, accumulator)
        price = bin_price(bin_id, pool.bin_step)
        fill = fill_bin(_Offer(bin_id, price, reserve, rate, sell_x, fee_on_output), left)
        fills.append(fill)
        left -= _used(fill, fee_on_output, exact_in)
        protocol_fee += fill.fee * fees.protocol_share_bps // BPS
        bin_id += -1 if sell_x else 1
    fee = sum(fill.fee for fill in fills)
    amount_in = sum(fill.into for fill in fills) + (0 if fee_on_output else fee)
    amount_out = sum(fill.gross_out for fill in fills) - (fee if fee_on_output else 0)
    if amount_out <= 0:
        raise AmountTooSmall(f"{amount} buys nothing here")
    volatility = Volatility(accumulator, reference, index_reference, max(now_s, pool.volatility.updated_s))
    return Walk(amount_in, amount_out, fee, protocol_fee, rate, tuple(fills), volatility)


def fee_rate(pool: BinPool, accumulator: int) -> int:
    """The total fee rate in 1e-9 at this volatility, at most 10 %."""
    fees = pool.fees
    power: int = 10**fees.base_fee_power
    base = fees.base_factor * pool.bin_step * 10 * power
    variable = -(-fees.variable_fee_control * (accumulator * pool.bin_step) ** 2 // VARIABLE_FEE_SCALE)
    return min(base + variable, FEE_RATE_MAX)


def _references(pool: BinPool, now_s: int) -> tuple[int, int]:
    """(volatility reference, index reference) for a trade at `now_s`."""
    volatility, fees = pool.volatility, pool.fees
    elapsed = now_s - volatility.updated_s
    if elapsed < fees.filter_period_s:
        return volatility.reference, volatility.index_reference
    if elapsed < fees.decay_period_s:
        return volatility.accumulator * fees.reduction_bps // BPS, pool.active_id
    return 0, pool.active_id


def _next_filled(pool: BinPool, bin_id: int, sell_x: bool) -> tuple[int, int]:
    """(id, reserve of the token bought) of the first bin from `bin_id` on that holds any."""
    bins, step, side = pool.bins, -1 if sell_x else 1, 1 if sell_x else 0
    while pool.min_bin_id <= bin_id <= pool.max_bin_id:
        held = bins.get(bin_id)
        if held is not None and held[side]:
            return bin_id, held[side]
        bin_id += step
    raise InsufficientLiquidity("the pool's bins do not hold enough")


class _Offer(NamedTuple):
    """One bin as a trade meets it."""

    bin_id: int
    price: int
    reserve: int
    rate: int
    sell_x: bool
    fee_on_output: bool


def _fill_exact_in(offer: _Offer, left: int) -> Fill:
    bin_id, price, reserve, rate, sell_x, fee_on_output = offer
    takes = input_for(reserve, price, sell_x)
    if fee_on_output:
        drained = left > takes
        gross = reserve if drained else min(output_for(left, price, sell_x), reserve)
        return Fill(bin_id, takes if drained else left, gross, fee_of_gross(gross, rate))
    drain_fee = fee_on_net(takes, rate)
    if left > takes + drain_fee:
        return Fill(bin_id, takes, reserve, drain_fee)
    fee = fee_of_gross(left, rate)
    return Fill(bin_id, left - fee, min(output_for(left - fee, price, sell_x), reserve), fee)


def _fill_exact_out(offer: _Offer, left: int) -> Fill:
    bin_id, price, reserve, rate, sell_x, fee_on_output = offer
    if fee_on_output:
        drain_fee = fee_of_gross(reserve, rate)
        if left >= reserve - drain_fee:
            return Fill(bin_id, input_for(reserve, price, sell_x), reserve, drain_fee)
        fee = fee_on_net(left, rate)
        return Fill(bin_id, input_for(left + fee, price, sell_x), left + fee, fee)
    out = min(left, reserve)
    into = input_for(out, price, sell_x)
    return Fill(bin_id, into, out, fee_on_net(into, rate))


def _used(fill: Fill, fee_on_output: bool, exact_in: bool) -> int:
    if exact_in:
        return fill.into if fee_on_output else fill.into + fill.fee
    return fill.gross_out - fill.fee if fee_on_output else fill.gross_out
