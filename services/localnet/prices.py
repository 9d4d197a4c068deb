"""Reference prices that move: a pure function of the seed and the block height.

Value noise in three octaves: knots drawn from a hash, straight lines between them. It is bounded, never needs to be
stored, and moves by at most about 2 bps a step, so that an ordinary slippage limit holds while a quote ages.
"""

import hashlib
from functools import lru_cache

from libs.venues.tokens import TOKENS

PPM = 1_000_000
HEIGHTS_PER_STEP = 5
# (steps between two knots, largest deviation in ppm)
OCTAVES = ((4, 200), (64, 1_500), (2_048, 10_000))

# One whole token in 1e-12 US dollars.
USD_E12 = {
    "SOL": 150 * 10**12,
    "USDC": 10**12,
    "USDT": 999_600_000_000,
    "JUP": 520_000_000_000,
    "BONK": 21_500_000,
    "RAY": 2_650_000_000_000,
    "ETH": 3_100 * 10**12,
    "BTC": 95_000 * 10**12,
}
# A stable coin strays a fiftieth as far as the others; USDC is what the dollars are counted in.
CALM = {"USDC": 0, "USDT": 20_000}


def price_step(height: int) -> int:
    """The price step a height lies in; prices change from one step to the next."""
    return height // HEIGHTS_PER_STEP


def usd_e12(seed: int, symbol: str, step: int) -> int:
    """The reference price of one whole token at a price step."""
    deviation = sum(_noise(seed, symbol, step, period, amplitude) for period, amplitude in OCTAVES)
    deviation = deviation * CALM.get(symbol, PPM) // PPM
    return USD_E12[symbol] * (PPM + deviation) // PPM


def ratio(seed: int, base: str, quote: str, step: int) -> tuple[int, int]:
    """Base units of `quote` for one base unit of `base`, as (numerator, denominator)."""
    quote_scale: int = 10 ** TOKENS[quote].decimals
    base_scale: int = 10 ** TOKENS[base].decimals
    return usd_e12(seed, base, step) * quote_scale, usd_e12(seed, quote, step) * base_scale


def _noise(seed: int, symbol: str, step: int, period: int, amplitude: int) -> int:
    index, offset = divmod(step, period)
    left = _knot(seed, symbol, period, index, amplitude)
    right = _knot(seed, symbol, period, index + 1, amplitude)
    return left + (right - left) * offset // period


@lru_cache(maxsize=1_024)
def _knot(seed: int, symbol: str, period: int, index: int, amplitude: int) -> int:
    digest = hashlib.blake2b(f"{seed}:{symbol}:{period}:{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % (2 * amplitude + 1) - amplitude
