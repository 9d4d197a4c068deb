"""Fixed-point arithmetic of liquidity bins: prices in Q64.64, fees in 1e-9, every rounding in the pool's favour."""

from functools import lru_cache

from libs.venues.errors import InsufficientLiquidity

ONE = 1 << 64
U128_MAX = (1 << 128) - 1
BIN_ID_MAX = 443_636
BPS = 10_000
FEE_PRECISION = 1_000_000_000
PRICES_CACHED = 65_536


@lru_cache(maxsize=PRICES_CACHED)
def bin_price(bin_id: int, bin_step: int) -> int:
    """(1 + bin_step / 10000) ** bin_id in Q64.64, truncated where the program truncates.

    Raises:
        InsufficientLiquidity: the bin is outside what Q64.64 can express.
    """
    if abs(bin_id) > BIN_ID_MAX:
        raise InsufficientLiquidity(f"bin {bin_id} has no price")
    if bin_id == 0:
        return ONE
    # The program raises the inverse, so that every product fits 128 bits, and inverts once at the end.
    factor = U128_MAX // (ONE + (bin_step * ONE) // BPS)
    result, exponent = ONE, abs(bin_id)
    while exponent:
        if exponent & 1:
            result = result * factor >> 64
        factor = factor * factor >> 64
        exponent >>= 1
    if not result:
        raise InsufficientLiquidity(f"bin {bin_id} has no price")
    return U128_MAX // result if bin_id > 0 else result


def output_for(amount_in: int, price: int, sell_x: bool) -> int:
    """What a net input gives at one bin's price, rounded down."""
    return amount_in * price >> 64 if sell_x else (amount_in << 64) // price


def input_for(amount_out: int, price: int, sell_x: bool) -> int:
    """The net input one bin needs for an output, rounded up."""
    return -(-(amount_out << 64) // price) if sell_x else -(-amount_out * price >> 64)


def fee_of_gross(gross: int, rate: int) -> int:
    """The fee inside an amount that includes it."""
    return -(-gross * rate // FEE_PRECISION)


def fee_on_net(net: int, rate: int) -> int:
    """The fee to add to an amount that does not include it."""
    return -(-net * rate // (FEE_PRECISION - rate))
