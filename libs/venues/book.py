"""The pools to route over, whatever their mathematics: one way to quote, one way to trade.

Times are seconds on the pool's own chain; only pools whose fee decays look at them.
"""

from typing import NamedTuple

from libs.venues import bins, concentrated, constant_product
from libs.venues.bin_math import bin_price, output_for
from libs.venues.bins import BinPool
from libs.venues.concentrated import ConcentratedPool
from libs.venues.constant_product import ConstantProductPool

PPM = 1_000_000

Pool = ConstantProductPool | BinPool | ConcentratedPool


class Quote(NamedTuple):
    """Base units. `amount_in` is all the trader pays, `amount_out` all he gets; the fee is inside one of them.

    `price_impact_ppm`: how much worse than the pool's price before the trade, fee apart.
    """

    amount_in: int
    amount_out: int
    fee: int
    fee_mint: str
    price_impact_ppm: int


def mints(pool: Pool) -> tuple[str, str]:
    """The two mints a pool trades."""
    return (pool.mint_x, pool.mint_y) if isinstance(pool, BinPool) else (pool.mint_a, pool.mint_b)


def quote_exact_in(pool: Pool, mint_in: str, amount: int, now_s: int = 0) -> Quote:
    """What `amount` of `mint_in` buys now.

    Raises:
        AmountTooSmall, InsufficientLiquidity, MintNotInPool: all of them VenueError.
    """
    if isinstance(pool, ConstantProductPool):
        return _product_quote(pool, mint_in, constant_product.pool_exact_in(pool, mint_in, amount))
    if isinstance(pool, BinPool):
        return _bin_quote(pool, mint_in, bins.walk_exact_in(pool, mint_in, amount, now_s))
    return _tick_quote(pool, mint_in, concentrated.cross_exact_in(pool, mint_in, amount, now_s))


def quote_exact_out(pool: Pool, mint_in: str, amount_out: int, now_s: int = 0) -> Quote:
    """What must be paid in `mint_in` for `amount_out`. Errors as `quote_exact_in`."""
    if isinstance(pool, ConstantProductPool):
        return _product_quote(pool, mint_in, constant_product.pool_exact_out(pool, mint_in, amount_out))
    if isinstance(pool, BinPool):
        return _bin_quote(pool, mint_in, bins.walk_exact_out(pool, mint_in, amount_out, now_s))
    return _tick_quote(pool, mint_in, concentrated.cross_exact_out(pool, mint_in, amount_out, now_s))


def swap(pool: Pool, mint_in: str, amount: int, now_s: int = 0) -> tuple[Pool, Quote]:
    """Sell `amount` of `mint_in`: the pool afterwards and what was traded. Errors as `quote_exact_in`."""
    if isinstance(pool, ConstantProductPool):
        trade = constant_product.pool_exact_in(pool, mint_in, amount)
        return constant_product.apply(pool, mint_in, trade), _product_quote(pool, mint_in, trade)
    if isinstance(pool, BinPool):
        walk = bins.walk_exact_in(pool, mint_in, amount, now_s)
        return bins.apply(pool, mint_in, walk), _bin_quote(pool, mint_in, walk)
    crossing = concentrated.cross_exact_in(pool, mint_in, amount, now_s)
    return concentrated.apply(pool, crossing), _tick_quote(pool, mint_in, crossing)


def _product_quote(pool: ConstantProductPool, mint_in: str, trade: constant_product.Trade) -> Quote:
    reserve_in, reserve_out = constant_product.reserves(pool, mint_in)
    # At the price before the trade the net input is worth net * out / in; as a ratio no division is needed twice.
    at_spot = (trade.amount_in - trade.fee) * reserve_out
    impact = PPM - trade.amount_out * reserve_in * PPM // at_spot
    return Quote(trade.amount_in, trade.amount_out, trade.fee, mint_in, impact)


def _bin_quote(pool: BinPool, mint_in: str, walk: bins.Walk) -> Quote:
    sell_x = mint_in == pool.mint_x
    fee_on_output = pool.fees.fee_on_y and sell_x
    net_in = walk.amount_in - (0 if fee_on_output else walk.fee)
    gross_out = walk.amount_out + (walk.fee if fee_on_output else 0)
    price = bin_price(walk.fills[0].bin_id, pool.bin_step)
    at_first_bin = output_for(net_in, price, sell_x)
    impact = PPM - gross_out * PPM // at_first_bin if at_first_bin else 0
    fee_mint = pool.mint_y if pool.fees.fee_on_y else mint_in
    return Quote(walk.amount_in, walk.amount_out, walk.fee, fee_mint, max(impact, 0))


def _tick_quote(pool: ConcentratedPool, mint_in: str, crossing: concentrated.Crossing) -> Quote:
    net_in, price_x128 = crossing.amount_in - crossing.fee, pool.sqrt_price**2
    sell_a = mint_in == pool.mint_a
    at_spot = net_in * price_x128 >> 128 if sell_a else (net_in << 128) // price_x128
    impact = PPM - crossing.amount_out * PPM // at_spot if at_spot else 0
    return Quote(crossing.amount_in, crossing.amount_out, crossing.fee, mint_in, max(impact, 0))
