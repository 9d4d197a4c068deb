"""Prices of ticks, bit for bit: tick i stands for the price 1.0001 ** i, of which pools hold the square root in Q64.64.

Orca and Raydium multiply the same powers, but of constants that differ in their last bits, so a price is one of a
ladder. Sources: orca-so/whirlpools `math/tick_math.rs`, raydium-io/raydium-clmm `libraries/tick_math.rs`.
"""

from functools import lru_cache
from typing import Literal

from libs.venues.bin_math import PRICES_CACHED, U128_MAX
from libs.venues.errors import InsufficientLiquidity

Ladder = Literal["orca", "raydium"]

TICK_MAX = 443_636

# 1.0001 ** -(2 ** place / 2), in Q64.
_BELOW: dict[Ladder, tuple[int, ...]] = {
    "orca": (
        0xFFFCB933BD6FAD37, 0xFFF97272373D4132, 0xFFF2E50F5F656932, 0xFFE5CACA7E10E4E6, 0xFFCB9843D60F6159,
        0xFF973B41FA98C081, 0xFF2EA16466C96A38, 0xFE5DEE046A99A2A8, 0xFCBE86C7900A88AE, 0xF987A7253AC41317,
        0xF3392B0822B70005, 0xE7159475A2C29B74, 0xD097F3BDFD2022B8, 0xA9F746462D870FDF, 0x70D869A156D2A1B8,
        0x31BE135F97D08FD9, 0x9AA508B5B7A84E1, 0x5D6AF8DEDB8119, 0x2216E584F5FA,
    ),
    "raydium": (
        0xFFFCB933BD6FB800, 0xFFF97272373D4000, 0xFFF2E50F5F657000, 0xFFE5CACA7E10F000, 0xFFCB9843D60F7000,
        0xFF973B41FA98E800, 0xFF2EA16466C9B000, 0xFE5DEE046A9A3800, 0xFCBE86C7900BB000, 0xF987A7253AC65800,
        0xF3392B0822BB6000, 0xE7159475A2CAF000, 0xD097F3BDFD2F2000, 0xA9F746462D9F8000, 0x70D869A156F31C00,
        0x31BE135F97ED3200, 0x9AA508B5B85A500, 0x5D6AF8DEDC582C, 0x2216E584F5FA,
    ),
}  # fmt: skip
# 1.0001 ** (2 ** place / 2), in Q96: only Orca has them, Raydium inverts the price below.
_ORCA_ABOVE = (
    79232123823359799118286999567, 79236085330515764027303304731, 79244008939048815603706035061,
    79259858533276714757314932305, 79291567232598584799939703904, 79355022692464371645785046466,
    79482085999252804386437311141, 79736823300114093921829183326, 80248749790819932309965073892,
    81282483887344747381513967011, 83390072131320151908154831281, 87770609709833776024991924138,
    97234110755111693312479820773, 119332217159966728226237229890, 179736315981702064433883588727,
    407748233172238350107850275304, 2098478828474011932436660412517, 55581415166113811149459800483533,
    38992368544603139932233054999993551,
)  # fmt: skip

# Ticks for each doubling of the square root, in Q32; and how far an estimate is taken back so that it is never above.
_TICKS_PER_DOUBLING_X32 = 59_543_866_431_248
_LOG2_BITS = 14
_MARGIN_X46 = (1 << 46) // 100


@lru_cache(maxsize=PRICES_CACHED)
def sqrt_price_at(tick: int, ladder: Ladder) -> int:
    """The square root of a tick's price in Q64.64, truncated where the program truncates.

    Raises:
        InsufficientLiquidity: the tick is outside what the programs can express.
    """
    if abs(tick) > TICK_MAX:
        raise InsufficientLiquidity(f"tick {tick} has no price")
    if tick > 0 and ladder == "orca":
        return _power(tick, _ORCA_ABOVE, 96) >> 32
    below = _power(abs(tick), _BELOW[ladder], 64)
    return U128_MAX // below if tick > 0 else below


def tick_at(sqrt_price: int, ladder: Ladder) -> int:
    """The greatest tick whose price is not above `sqrt_price` (Q64.64).

    Raises:
        InsufficientLiquidity: the price is outside that of all ticks.
    """
    if not sqrt_price_at(-TICK_MAX, ladder) <= sqrt_price <= sqrt_price_at(TICK_MAX, ladder):
        raise InsufficientLiquidity(f"sqrt price {sqrt_price} has no tick")
    exponent = sqrt_price.bit_length() - 1
    mantissa, doublings = (sqrt_price << 63) >> exponent, exponent - 64
    for _ in range(_LOG2_BITS):
        mantissa = mantissa * mantissa >> 63
        doubled = mantissa >> 64
        mantissa >>= doubled
        doublings = 2 * doublings + doubled
    # So many bits of the logarithm leave less than one tick open: it is this one or the next.
    low = (doublings * _TICKS_PER_DOUBLING_X32 - _MARGIN_X46) >> (32 + _LOG2_BITS)
    return low + (sqrt_price_at(low + 1, ladder) <= sqrt_price)


def _power(exponent: int, factors: tuple[int, ...], bits: int) -> int:
    result = 1 << bits
    for place, factor in enumerate(factors):
        if exponent >> place & 1:
            result = result * factor >> bits
    return result
