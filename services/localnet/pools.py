"""The venues' pools: which pairs, how deep, what fee, and the arbitrage that holds them to the reference price."""

import hashlib
from dataclasses import dataclass, replace
from math import isqrt

from solders.pubkey import Pubkey

from libs.venues.adaptive_fee import TickFees, TickVolatility
from libs.venues.bin_math import ONE, bin_price
from libs.venues.bins import BinFees, BinPool, Volatility
from libs.venues.book import Pool
from libs.venues.concentrated import ConcentratedPool
from libs.venues.constant_product import ConstantProductPool
from libs.venues.tick_math import sqrt_price_at, tick_at
from libs.venues.tokens import TOKENS
from services.localnet.prices import USD_E12, ratio
from services.localnet.wire import METEORA_PROGRAM, ORCA_PROGRAM, RAYDIUM_PROGRAM

PROGRAMS = {"raydium": RAYDIUM_PROGRAM, "meteora": METEORA_PROGRAM, "orca": ORCA_PROGRAM}
LABELS = {"raydium": "Raydium", "meteora": "Meteora DLMM", "orca": "Whirlpool"}
BINS_EACH_SIDE = 30
# How far the ranges of a concentrated pool go to each side, in tick spacings; each holds as much as the others.
RANGES = (25, 100, 400)
# Arbitrage acts as soon as a pool is this far off; without it a busy slot would run away from every quote.
ARBITRAGE_PPM = 1_000
RAYDIUM_PROTOCOL_SHARE_PPM = 120_000
PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Listing:
    """One pool as its makers set it up.

    `depth_usd`: on each side, or in each bin. `fee`: parts per million, or the base factor of a bin pool.
    `bin_step`: 0 but for a bin pool. `tick_spacing`: 0 but for a concentrated one.
    """

    venue: str
    base: str
    quote: str
    depth_usd: int
    fee: int
    bin_step: int = 0
    tick_spacing: int = 0

    @property
    def address(self) -> str:
        return str(Pubkey(hashlib.sha256(f"{self.venue}:{self.base}/{self.quote}".encode()).digest()))

    @property
    def program(self) -> str:
        return PROGRAMS[self.venue]


LISTINGS = (
    Listing("raydium", "SOL", "USDC", 150_000_000, 400),
    Listing("raydium", "SOL", "USDT", 90_000_000, 500),
    Listing("raydium", "USDT", "USDC", 120_000_000, 100),
    Listing("raydium", "JUP", "USDC", 40_000_000, 2_500),
    Listing("raydium", "BONK", "USDC", 30_000_000, 2_500),
    Listing("raydium", "RAY", "USDC", 50_000_000, 1_200),
    Listing("raydium", "JUP", "SOL", 45_000_000, 2_000),
    Listing("raydium", "BONK", "SOL", 40_000_000, 2_500),
    Listing("raydium", "RAY", "SOL", 60_000_000, 1_200),
    Listing("raydium", "ETH", "USDC", 200_000_000, 500),
    Listing("raydium", "ETH", "SOL", 180_000_000, 500),
    Listing("raydium", "BTC", "USDC", 400_000_000, 500),
    Listing("raydium", "BTC", "USDT", 400_000_000, 500),
    Listing("raydium", "BTC", "SOL", 300_000_000, 500),
    Listing("meteora", "SOL", "USDC", 2_000_000, 10_000, 4),
    Listing("meteora", "SOL", "USDT", 1_200_000, 10_000, 5),
    Listing("meteora", "USDT", "USDC", 10_000_000, 10_000, 1),
    Listing("meteora", "JUP", "USDC", 700_000, 22_000, 10),
    Listing("meteora", "RAY", "USDC", 600_000, 12_500, 10),
    Listing("meteora", "JUP", "SOL", 700_000, 20_000, 10),
    Listing("meteora", "BONK", "SOL", 600_000, 24_000, 10),
    Listing("meteora", "ETH", "USDC", 4_000_000, 10_000, 5),
    Listing("meteora", "ETH", "SOL", 3_000_000, 10_000, 5),
    Listing("meteora", "BTC", "USDT", 8_000_000, 10_000, 5),
    Listing("orca", "SOL", "USDC", 30_000_000, 400, tick_spacing=4),
    Listing("orca", "SOL", "USDT", 20_000_000, 500, tick_spacing=8),
    Listing("orca", "USDT", "USDC", 40_000_000, 100, tick_spacing=1),
    Listing("orca", "JUP", "USDC", 25_000_000, 3_000, tick_spacing=64),
    Listing("orca", "JUP", "SOL", 15_000_000, 1_600, tick_spacing=16),
    Listing("orca", "BONK", "SOL", 25_000_000, 3_000, tick_spacing=64),
    Listing("orca", "ETH", "USDC", 40_000_000, 500, tick_spacing=8),
    Listing("orca", "ETH", "SOL", 30_000_000, 500, tick_spacing=8),
    Listing("orca", "BTC", "USDC", 60_000_000, 500, tick_spacing=8),
    Listing("orca", "BTC", "SOL", 50_000_000, 500, tick_spacing=8),
)


def initial_pool(listing: Listing, seed: int, step: int) -> Pool:
    """A pool as it opens: its depth at the reference price."""
    base, quote = TOKENS[listing.base], TOKENS[listing.quote]
    numerator, denominator = ratio(seed, listing.base, listing.quote, step)
    if listing.bin_step:
        bin_id = nearest_bin(numerator, denominator, listing.bin_step)
        fees = BinFees(base_factor=listing.fee, variable_fee_control=5_000, protocol_share_bps=500)
        pool = BinPool(
            listing.address, base.mint, quote.mint, listing.bin_step, bin_id, {}, fees,
            Volatility(index_reference=bin_id), bin_id, bin_id,
        )  # fmt: skip
        return _recentred(pool, listing, bin_id)
    if listing.tick_spacing:
        return _initial_concentrated(listing, (numerator, denominator))
    reserve = listing.depth_usd * 10**12 * 10**base.decimals // USD_E12[listing.base]
    return ConstantProductPool(
        listing.address, base.mint, quote.mint, reserve, reserve * numerator // denominator,
        listing.fee, RAYDIUM_PROTOCOL_SHARE_PPM,
    )  # fmt: skip


def align(pool: Pool, listing: Listing, price: tuple[int, int], band_ppm: int = 0) -> Pool:
    """The pool after arbitrage against `price` (quote units per base unit); itself while within the band."""
    numerator, denominator = price
    if isinstance(pool, ConstantProductPool):
        here, there = pool.reserve_b * denominator, pool.reserve_a * numerator
        if abs(here - there) * PPM <= there * band_ppm:
            return pool
        product = pool.reserve_a * pool.reserve_b
        reserve_a = isqrt(product * denominator // numerator)
        # Rounded up: whoever realigns the pool pays for the last unit, so the product cannot fall.
        return replace(pool, reserve_a=reserve_a, reserve_b=-(-product // reserve_a))
    if isinstance(pool, ConcentratedPool):
        here, there = pool.sqrt_price**2 * denominator, numerator << 128
        # Within its fee nobody gains by bringing it back.
        if abs(here - there) * PPM <= there * max(band_ppm, pool.fees.fee_ppm):
            return pool
        return _surrounded(pool, listing, price)
    if abs(_off_price(pool.active_id, pool.bin_step, numerator, denominator)) <= max(band_ppm, pool.bin_step * 50):
        return pool
    return _recentred(pool, listing, nearest_bin(numerator, denominator, pool.bin_step))


def nearest_bin(numerator: int, denominator: int, bin_step: int) -> int:
    """The bin whose price is nearest to a price in quote units per base unit."""
    target = (numerator << 64) // denominator
    low, high = -1, 1
    while bin_price(low, bin_step) > target:
        low *= 2
    while bin_price(high, bin_step) < target:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if bin_price(middle, bin_step) <= target else (low, middle)
    return low if target - bin_price(low, bin_step) <= bin_price(high, bin_step) - target else high


def _off_price(bin_id: int, bin_step: int, numerator: int, denominator: int) -> int:
    here, there = bin_price(bin_id, bin_step) * denominator, numerator * ONE
    return (here - there) * PPM // there


def _recentred(pool: BinPool, listing: Listing, bin_id: int) -> BinPool:
    """Every bin as deep as listed again, Y below the price and X above it, both in the active bin."""
    depth_y = _depth_in_quote(listing)
    low, high = bin_id - BINS_EACH_SIDE, bin_id + BINS_EACH_SIDE
    bins = dict.fromkeys(range(low, bin_id), (0, depth_y))
    bins |= {above: ((depth_y << 64) // bin_price(above, pool.bin_step), 0) for above in range(bin_id, high + 1)}
    bins[bin_id] = (bins[bin_id][0], depth_y)
    return replace(pool, active_id=bin_id, bins=bins, min_bin_id=low, max_bin_id=high)


def _initial_concentrated(listing: Listing, price: tuple[int, int]) -> ConcentratedPool:
    fees = TickFees(listing.fee, protocol_share_bps=1_300, control=5_000, group_ticks=listing.tick_spacing)
    mints = TOKENS[listing.base].mint, TOKENS[listing.quote].mint
    empty = ConcentratedPool(listing.address, *mints, listing.tick_spacing, ONE, 0, 0, (), fees, TickVolatility())
    pool = _surrounded(empty, listing, price)
    return replace(pool, volatility=TickVolatility(group_reference=pool.tick // fees.group_ticks))


def _surrounded(pool: ConcentratedPool, listing: Listing, price: tuple[int, int]) -> ConcentratedPool:
    """Every range as deep as listed again, around the price: B below it and A above."""
    numerator, denominator = price
    sqrt_price = isqrt((numerator << 128) // denominator)
    tick = tick_at(sqrt_price, pool.ladder)
    start = tick // pool.tick_spacing * pool.tick_spacing
    depth_b = _depth_in_quote(listing) // len(RANGES)
    net: dict[int, int] = {}
    for spacings in RANGES:
        low, high = start - spacings * pool.tick_spacing, start + (spacings + 1) * pool.tick_spacing
        net[low] = (depth_b << 64) // (sqrt_price - sqrt_price_at(low, pool.ladder))
        net[high] = -net[low]
    liquidity = sum(change for change in net.values() if change > 0)
    return replace(pool, sqrt_price=sqrt_price, tick=tick, liquidity=liquidity, ticks=tuple(sorted(net.items())))


def _depth_in_quote(listing: Listing) -> int:
    depth: int = listing.depth_usd * 10**12 * 10 ** TOKENS[listing.quote].decimals // USD_E12[listing.quote]
    return depth
