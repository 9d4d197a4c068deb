"""A pool as JSON, to be kept: what is written is read back the same, to the last unit."""

import orjson

from libs.venues.adaptive_fee import TickFees, TickVolatility
from libs.venues.bins import BinFees, BinPool, Volatility
from libs.venues.book import Pool
from libs.venues.concentrated import ConcentratedPool
from libs.venues.constant_product import ConstantProductPool
from libs.venues.tick_math import Ladder


def pool_json(pool: Pool) -> bytes:
    """The kind of the pool, and all of its state."""
    if isinstance(pool, BinPool):
        # Strings as keys: JSON has no others.
        bins = {str(bin_id): held for bin_id, held in pool.bins.items()}
        return orjson.dumps([
            "bins", pool.address, pool.mint_x, pool.mint_y, pool.bin_step, pool.active_id, bins,
            [getattr(pool.fees, name) for name in BinFees.__slots__], list(pool.volatility),
            pool.min_bin_id, pool.max_bin_id,
        ])  # fmt: skip
    if isinstance(pool, ConcentratedPool):
        # Strings for what has more than 64 bits: orjson writes no such numbers.
        return orjson.dumps([
            "ticks", pool.address, pool.mint_a, pool.mint_b, pool.tick_spacing, str(pool.sqrt_price), pool.tick,
            str(pool.liquidity), [(tick, str(net)) for tick, net in pool.ticks],
            [getattr(pool.fees, name) for name in TickFees.__slots__], list(pool.volatility), pool.ladder,
        ])  # fmt: skip
    return orjson.dumps(["product", *(getattr(pool, name) for name in ConstantProductPool.__slots__)])


def pool_of(raw: bytes) -> Pool:
    """The pool that `pool_json` wrote."""
    kind, *fields = orjson.loads(raw)
    if kind == "product":
        return ConstantProductPool(*fields)
    if kind == "ticks":
        return _concentrated_pool(*fields)
    address, mint_x, mint_y, bin_step, active_id, bins, fees, volatility, low, high = fields
    held = {int(bin_id): (x, y) for bin_id, (x, y) in bins.items()}
    return BinPool(
        address, mint_x, mint_y, bin_step, active_id, held, BinFees(*fees), Volatility(*volatility), low, high
    )


def _concentrated_pool(
    address: str, mint_a: str, mint_b: str, tick_spacing: int, sqrt_price: str, tick: int, liquidity: str,
    ticks: list[tuple[int, str]], fees: list[int], volatility: list[int], ladder: Ladder,
) -> ConcentratedPool:  # fmt: skip
    return ConcentratedPool(
        address, mint_a, mint_b, tick_spacing, int(sqrt_price), tick, int(liquidity),
        tuple((at, int(net)) for at, net in ticks), TickFees(*fees), TickVolatility(*volatility), ladder,
    )  # fmt: skip
