"""Constant product pools as Raydium CPMM computes them: x * y never falls, every rounding favours the pool."""

from dataclasses import dataclass
from typing import NamedTuple

from libs.venues.errors import AmountTooSmall, InsufficientLiquidity, MintNotInPool
from libs.venues.tokens import U64_MAX

PPM = 1_000_000


class Trade(NamedTuple):
    """`amount_in` includes `fee`; all three are base units, the fee those of the token sold."""

    amount_in: int
    amount_out: int
    fee: int


@dataclass(frozen=True, slots=True)
class ConstantProductPool:
    """Reserves are the vaults without collected protocol fees; rates in parts per million.

    `protocol_share_ppm` is the part of the trade fee that leaves the pool; the rest stays with its owners.
    """

    address: str
    mint_a: str
    mint_b: str
    reserve_a: int
    reserve_b: int
    fee_ppm: int
    protocol_share_ppm: int = 0


def exact_in(reserve_in: int, reserve_out: int, amount_in: int, fee_ppm: int) -> Trade:
    """What `amount_in` buys; the output may be 0."""
    fee = -(-amount_in * fee_ppm // PPM)
    net = amount_in - fee
    return Trade(amount_in, net * reserve_out // (reserve_in + net), fee)


def exact_out(reserve_in: int, reserve_out: int, amount_out: int, fee_ppm: int) -> Trade:
    """The least input that buys `amount_out`.

    Raises:
        InsufficientLiquidity: the pool does not hold more than `amount_out`.
    """
    if amount_out >= reserve_out:
        raise InsufficientLiquidity(f"the pool holds {reserve_out} and cannot give {amount_out}")
    net = -(-reserve_in * amount_out // (reserve_out - amount_out))
    amount_in = -(-net * PPM // (PPM - fee_ppm))
    return Trade(amount_in, amount_out, amount_in - net)


def pool_exact_in(pool: ConstantProductPool, mint_in: str, amount_in: int) -> Trade:
    """Quote `amount_in` of `mint_in`.

    Raises:
        AmountTooSmall: nothing would come out.
        InsufficientLiquidity: the reserve would leave 64 bits.
        MintNotInPool: `mint_in` is neither side.
    """
    reserve_in, reserve_out = reserves(pool, mint_in)
    trade = exact_in(reserve_in, reserve_out, amount_in, pool.fee_ppm)
    if trade.amount_out <= 0:
        raise AmountTooSmall(f"{amount_in} buys nothing here")
    if reserve_in + amount_in > U64_MAX:
        raise InsufficientLiquidity("the pool's reserve would leave 64 bits")
    return trade


def pool_exact_out(pool: ConstantProductPool, mint_in: str, amount_out: int) -> Trade:
    """Quote the input of `mint_in` for exactly `amount_out` of the other side. Errors as `pool_exact_in`."""
    reserve_in, reserve_out = reserves(pool, mint_in)
    if amount_out <= 0:
        raise AmountTooSmall("the output must be above zero")
    trade = exact_out(reserve_in, reserve_out, amount_out, pool.fee_ppm)
    if reserve_in + trade.amount_in > U64_MAX:
        raise InsufficientLiquidity("the pool's reserve would leave 64 bits")
    return trade


def apply(pool: ConstantProductPool, mint_in: str, trade: Trade) -> ConstantProductPool:
    """The pool after `trade`, which was quoted on it."""
    added = trade.amount_in - trade.fee * pool.protocol_share_ppm // PPM
    a, b = (added, -trade.amount_out) if mint_in == pool.mint_a else (-trade.amount_out, added)
    # Spelled out: `replace` takes three times as long, and a chain does this for every swap.
    return ConstantProductPool(
        pool.address, pool.mint_a, pool.mint_b, pool.reserve_a + a, pool.reserve_b + b, pool.fee_ppm,
        pool.protocol_share_ppm,
    )  # fmt: skip


def reserves(pool: ConstantProductPool, mint_in: str) -> tuple[int, int]:
    """(reserve of `mint_in`, reserve of the other side)."""
    if mint_in == pool.mint_a:
        return pool.reserve_a, pool.reserve_b
    if mint_in == pool.mint_b:
        return pool.reserve_b, pool.reserve_a
    raise MintNotInPool(f"{mint_in} is not traded in {pool.address}")
