"""What one transaction does to pools and to its payer's balances: all of it or nothing.

Custom errors of the venues' programs:
  1     the payer's token balance is too low
  6000  reverted by injected trouble
  6001  slippage: less than the minimum would come out
  6002  the pool's liquidity does not suffice
  6003  unknown pool, or a pool of another program
  6004  the amount is too small: nothing would come out
"""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, NamedTuple

from libs.venues.book import Pool, mints, swap
from libs.venues.errors import AmountTooSmall, InsufficientLiquidity
from libs.venues.tokens import U64_MAX
from services.localnet.pools import Listing
from services.localnet.wire import IGNORED_PROGRAMS, SWAP_PROGRAMS, Instruction, SignedTransaction

INSUFFICIENT_FUNDS = 1
REVERTED = 6000
SLIPPAGE = 6001
INSUFFICIENT_LIQUIDITY = 6002
UNKNOWN_POOL = 6003
AMOUNT_TOO_SMALL = 6004

LAMPORTS = "lamports"

Align = Callable[[str, Pool], Pool]
# An error as Solana's JSON-RPC shows it: a name, or a name with its details.
ChainError = str | dict[str, Any]


class Effect(NamedTuple):
    """The outcome. Where `err` is set, pools and balances are untouched but for the fee."""

    err: ChainError | None
    pools: dict[str, Pool]
    balances: dict[str, int]
    logs: list[str]


class _Failed(Exception):
    def __init__(self, reason: int | str) -> None:
        self.reason = reason


def execute(
    transaction: SignedTransaction,
    pools: Mapping[str, Pool],
    listings: Mapping[str, Listing],
    balances: Mapping[str, int],
    now_s: int,
    align: Align,
    forced: int | None = None,
) -> Effect:
    """Run every instruction in order. `align` is the arbitrage that follows a swap; `forced` fails the first one."""
    touched: dict[str, Pool] = {}
    held = dict(balances)
    logs: list[str] = []
    for index, instruction in enumerate(transaction.instructions):
        try:
            if forced is not None and instruction.program in SWAP_PROGRAMS:
                raise _Failed(forced)
            _run(instruction, pools, touched, listings, held, now_s, align)
        except _Failed as failed:
            logs.append(f"Program {instruction.program} failed: {_describe(failed.reason)}")
            detail = {"Custom": failed.reason} if isinstance(failed.reason, int) else failed.reason
            return Effect({"InstructionError": [index, detail]}, {}, dict(balances), logs)
        logs.append(f"Program {instruction.program} success")
    return Effect(None, touched, held, logs)


def reference_of(transaction: SignedTransaction) -> str:
    """The caller's reference of the first swap, else what a memo says, or an empty text."""
    swaps = (item.swap.reference for item in transaction.instructions if item.swap)
    memos = (item.memo for item in transaction.instructions)
    return next(filter(None, chain(swaps, memos)), "")


def _run(
    instruction: Instruction,
    pools: Mapping[str, Pool],
    touched: dict[str, Pool],
    listings: Mapping[str, Listing],
    held: dict[str, int],
    now_s: int,
    align: Align,
) -> None:
    if instruction.program in IGNORED_PROGRAMS:
        return
    if instruction.program not in SWAP_PROGRAMS:
        raise _Failed("UnsupportedProgramId")
    order = instruction.swap
    if order is None:
        raise _Failed("InvalidInstructionData")
    amount, mint = order.amount_in, None
    for hop in order.hops:
        listing = listings.get(hop.pool)
        if listing is None or listing.program != instruction.program:
            raise _Failed(UNKNOWN_POOL)
        pool = touched.get(hop.pool) or pools[hop.pool]
        first, second = mints(pool)
        mint_in, mint_out = (first, second) if hop.first_in else (second, first)
        if mint not in {None, mint_in}:
            raise _Failed("InvalidInstructionData")  # it does not take what came out before
        after, amount = _traded(pool, mint_in, mint_out, amount, held, now_s)
        touched[hop.pool], mint = align(hop.pool, after), mint_out
    if amount < order.minimum_out:
        raise _Failed(SLIPPAGE)


def _traded(pool: Pool, mint_in: str, mint_out: str, amount: int, held: dict[str, int], now_s: int) -> tuple[Pool, int]:
    """The pool afterwards, and what came out of it."""
    if held[mint_in] < amount:
        raise _Failed(INSUFFICIENT_FUNDS)
    try:
        after, traded = swap(pool, mint_in, amount, now_s)
    except AmountTooSmall:
        raise _Failed(AMOUNT_TOO_SMALL) from None
    except InsufficientLiquidity:
        raise _Failed(INSUFFICIENT_LIQUIDITY) from None
    if held[mint_out] + traded.amount_out > U64_MAX:
        raise _Failed("ArithmeticOverflow")
    held[mint_in] -= traded.amount_in
    held[mint_out] += traded.amount_out
    return after, traded.amount_out


def _describe(reason: int | str) -> str:
    return f"custom program error: {reason:#x}" if isinstance(reason, int) else reason
