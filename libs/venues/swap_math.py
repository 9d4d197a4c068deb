"""One step of a swap at constant liquidity, as Orca Whirlpool and Raydium CLMM compute it.

Square roots of prices (B per A) are Q64.64, amounts base units, rates parts per million of the input. What the trader
pays is rounded up, what he gets down, and a price never moves further than he has paid for. Sources:
orca-so/whirlpools `math/{swap_math,token_math}.rs`, raydium-io/raydium-clmm `libraries/{swap_math,sqrt_price_math}.rs`.
"""

from typing import NamedTuple

from libs.venues.constant_product import PPM


class Step(NamedTuple):
    """Where the price is afterwards, what was paid (`fee` is to be added to `amount_in`) and what came out."""

    sqrt_price: int
    amount_in: int
    amount_out: int
    fee: int


def step_exact_in(sqrt_price: int, target: int, liquidity: int, left: int, fee_ppm: int, sell_a: bool) -> Step:
    """Sell up to `left`, fee included, until the price is `target`. Where it is not reached, all of `left` is paid."""
    net = left * (PPM - fee_ppm) // PPM
    amount_in = _amount_in(sqrt_price, target, liquidity, sell_a)
    if amount_in <= net:
        return Step(target, amount_in, _amount_out(sqrt_price, target, liquidity, sell_a), _fee_on(amount_in, fee_ppm))
    after = _price_after_input(sqrt_price, liquidity, net, sell_a)
    amount_in = _amount_in(sqrt_price, after, liquidity, sell_a)
    # What rounding leaves over is the pool's as well.
    return Step(after, amount_in, _amount_out(sqrt_price, after, liquidity, sell_a), left - amount_in)


def step_exact_out(sqrt_price: int, target: int, liquidity: int, left: int, fee_ppm: int, sell_a: bool) -> Step:
    """Buy up to `left` until the price is `target`."""
    amount_out = _amount_out(sqrt_price, target, liquidity, sell_a)
    if amount_out <= left:
        after = target
    else:
        after, amount_out = _price_after_output(sqrt_price, liquidity, left, sell_a), left
    amount_in = _amount_in(sqrt_price, after, liquidity, sell_a)
    return Step(after, amount_in, amount_out, _fee_on(amount_in, fee_ppm))


def _amount_in(sqrt_price: int, after: int, liquidity: int, sell_a: bool) -> int:
    if sell_a:
        return -(-(liquidity << 64) * (sqrt_price - after) // (sqrt_price * after))
    return -(-liquidity * (after - sqrt_price) >> 64)


def _amount_out(sqrt_price: int, after: int, liquidity: int, sell_a: bool) -> int:
    if sell_a:
        return liquidity * (sqrt_price - after) >> 64
    return (liquidity << 64) * (after - sqrt_price) // (sqrt_price * after)


def _price_after_input(sqrt_price: int, liquidity: int, amount: int, sell_a: bool) -> int:
    if sell_a:
        return -(-(liquidity << 64) * sqrt_price // ((liquidity << 64) + amount * sqrt_price))
    return sqrt_price + (amount << 64) // liquidity


def _price_after_output(sqrt_price: int, liquidity: int, amount: int, sell_a: bool) -> int:
    if sell_a:
        return sqrt_price + (-amount << 64) // liquidity
    return -(-(liquidity << 64) * sqrt_price // ((liquidity << 64) - amount * sqrt_price))


def _fee_on(amount_in: int, fee_ppm: int) -> int:
    return -(-amount_in * fee_ppm // (PPM - fee_ppm))
