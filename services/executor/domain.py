"""What counts as evidence about a sent transaction, and what the chain's errors mean. Pure.

A timeout proves nothing. A submission ends only when its signature is found on the chain, or when the chain is past
the last block that could take it and the signature is not there: only then may the order be signed again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from libs.events.model import Reason
from libs.venues.tokens import TOKENS

Commitment = Literal["processed", "confirmed", "finalized"]

PPM = 1_000_000
NUMBER_MAX = 2**53 - 1  # of a number that is not an amount: every reader of JSON holds it exactly
BLOCKHASH_HEIGHTS = 150  # a chain's rule: for how long a transaction may name a block
AHEAD_MAX = 2 * BLOCKHASH_HEIGHTS  # our node may be behind the venue's
SOL_MINT = TOKENS["SOL"].mint
DETAIL_CHARS_MAX = 300

# Custom codes of the swap programs, and of SPL Token (1).
_CUSTOM = {
    1: (Reason.INSUFFICIENT_FUNDS, "the wallet does not hold enough of the token sold"),
    6001: (Reason.SLIPPAGE_EXCEEDED, "the price moved: less than the minimum would have come out"),
    6002: (Reason.INSUFFICIENT_LIQUIDITY, "the pool cannot fill the amount"),
    6004: (Reason.AMOUNT_TOO_SMALL, "nothing would come out for this amount"),
    6003: (Reason.VENUE_REFUSED, "the chain does not know the pool"),
}
_FUNDS = frozenset({"InsufficientFunds", "InsufficientFundsForFee", "InsufficientFundsForRent", "AccountNotFound"})


@dataclass(frozen=True, slots=True)
class TxStatus:
    """A signature the chain knows. `error` is the chain's own, None when it succeeded."""

    slot: int
    commitment: Commitment
    error: Any

    @property
    def settled(self) -> bool:
        """A block that is only processed may still be dropped with its fork."""
        return self.commitment != "processed"


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the chain as of `slot` showed; `status` None: the signature was not there."""

    slot: int
    status: TxStatus | None


@dataclass(frozen=True, slots=True)
class ChainView:
    """Where the chain stood. `blockhash_valid`: of the transaction in question; None: the node cannot say."""

    slot: int
    block_height: int
    blockhash_valid: bool | None


@dataclass(frozen=True, slots=True)
class Confirmed:
    slot: int


@dataclass(frozen=True, slots=True)
class FailedOnChain:
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Expired:
    block_height: int


@dataclass(frozen=True, slots=True)
class StillPending:
    pass


Evidence = Confirmed | FailedOnChain | Expired | StillPending


def conclude(look: Look, view: ChainView | None, last_valid_block_height: int) -> Evidence:
    """What is proven. `view` must be from before `look`; None when it is not known.

    A node behind the one that told the height may not have the block with our signature yet, so a look from an older
    slot proves nothing.
    """
    if look.status and look.status.settled:
        if look.status.error is None:
            return Confirmed(look.status.slot)
        reason, detail = chain_error(look.status.error)
        return FailedOnChain(reason, detail)
    gone = look.status is None and view is not None and look.slot >= view.slot
    if gone and view and past(view, last_valid_block_height):
        return Expired(view.block_height)
    return StillPending()


def believable(last_valid_block_height: int, block_height: int) -> bool:
    """Whether a transaction just built may say so while the chain stands about there.

    One that is dropped would be waited for until then: nothing else proves that it never lands.
    """
    return block_height <= last_valid_block_height <= block_height + AHEAD_MAX


def past(view: ChainView, last_valid_block_height: int) -> bool:
    """No block can take the transaction any more.

    The blockhash itself is asked too: a venue may err in its height, where the node cannot say as far as is believed.
    """
    may_err_by = AHEAD_MAX if view.blockhash_valid is None else 0
    return view.block_height > last_valid_block_height + may_err_by and view.blockhash_valid is not True


def needs_blocks_from(view: ChainView, last_valid_block_height: int) -> int | None:
    """The height from which on a node must have every block, or that it shows no signature proves nothing.

    None: a node remembers the signatures of twice as many blocks as a transaction has to land in, whenever it began.
    """
    if view.block_height <= last_valid_block_height + BLOCKHASH_HEIGHTS:
        return None
    return max(0, last_valid_block_height - AHEAD_MAX)


def chain_error(error: Any) -> tuple[Reason, str]:
    """The reason behind a transaction's error, and one sentence for people."""
    cause = error
    if isinstance(error, Mapping) and isinstance(error.get("InstructionError"), (list, tuple)):
        cause = error["InstructionError"][-1] if error["InstructionError"] else None
    if isinstance(cause, Mapping) and isinstance(cause.get("Custom"), int) and cause["Custom"] in _CUSTOM:
        reason, detail = _CUSTOM[cause["Custom"]]
        return reason, f"{detail} (code {cause['Custom']})"
    name = next(iter(cause), "") if isinstance(cause, Mapping) else cause
    if isinstance(name, str) and name in _FUNDS:
        return Reason.INSUFFICIENT_FUNDS, f"the wallet cannot pay: {name}"
    return Reason.TRANSACTION_REJECTED, f"the chain rejected the transaction: {json.dumps(error)[:DETAIL_CHARS_MAX]}"


def amount_received(meta: Mapping[str, Any], owner: str, mint: str) -> int | None:
    """What `owner` got of `mint`, from a transaction's balances before and after; None when it does not show.

    SOL bought may arrive as lamports of the fee payer instead of as wrapped tokens; the fee it paid is added back. What
    he had wrapped before is paid out with it, and what its account was rented for, where the venue closes that account.
    """
    before, after = (_held(meta.get(key), owner, mint) for key in ("preTokenBalances", "postTokenBalances"))
    if after is not None:
        return after - (before or 0)
    if mint != SOL_MINT or not meta.get("preBalances") or not meta.get("postBalances"):
        return None
    closed = [entry["accountIndex"] for entry in _of(meta.get("preTokenBalances"), owner, mint)]
    paid = (int(meta["postBalances"][each]) - int(meta["preBalances"][each]) for each in (0, *closed))
    return sum(paid) + int(meta.get("fee", 0))


def against_quote_ppm(amount_out: int, quoted_out: int) -> int:
    """Amount out against the quote in millionths, rounded down; negative: less than quoted."""
    return min((amount_out - quoted_out) * PPM // quoted_out, NUMBER_MAX)


def _held(balances: Any, owner: str, mint: str) -> int | None:
    held = [int(entry["uiTokenAmount"]["amount"]) for entry in _of(balances, owner, mint)]
    return sum(held) if held else None


def _of(balances: Any, owner: str, mint: str) -> list[Mapping[str, Any]]:
    return [entry for entry in balances or () if entry.get("owner") == owner and entry.get("mint") == mint]
