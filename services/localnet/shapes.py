"""The chain's facts as Solana's JSON shows them."""

import hashlib
from functools import lru_cache
from typing import Any

from solders.pubkey import Pubkey

from libs.venues.tokens import Token, find_token, to_decimal_text
from services.localnet.blocks import Outcome
from services.localnet.chain import FAUCET
from services.localnet.execution import LAMPORTS, ChainError
from services.localnet.storage import Stored

TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"  # noqa: S105  (an address)

ACCOUNTS_CACHED = 4_096
AMOUNTS_CACHED = 256  # what is held after one transaction is held before the next


def status(outcome: Outcome, tip_slot: int, finalized_slots: int) -> dict[str, Any]:
    """One value of getSignatureStatuses."""
    depth = tip_slot - outcome.slot
    finalized = depth >= finalized_slots
    return {
        "slot": outcome.slot,
        "confirmations": None if finalized else depth,
        "err": outcome.err,
        "status": {"Ok": None} if outcome.err is None else {"Err": outcome.err},
        "confirmationStatus": "finalized" if finalized else "confirmed",
    }


def transaction(stored: Stored) -> dict[str, Any]:
    """getTransaction: balances where they changed, of the fee payer."""
    item = stored.transaction
    before, after = item.balances.get(LAMPORTS, (0, 0))
    keys, had, has = [item.payer], [], []
    for mint, (units_before, units_after) in item.balances.items():
        if token := find_token(mint):
            had.append(_balance(len(keys), item.payer, token, units_before))
            has.append(_balance(len(keys), item.payer, token, units_after))
            keys.append(token_account(item.payer, mint))
    meta = {
        "err": item.err,
        "status": {"Ok": None} if item.err is None else {"Err": item.err},
        "fee": item.fee,
        "preBalances": [before],
        "postBalances": [after],
        "preTokenBalances": had,
        "postTokenBalances": has,
        "logMessages": item.logs,
        "innerInstructions": [],
        "rewards": [],
    }
    return {
        "slot": stored.slot,
        "blockTime": stored.time_s,
        "version": 0,
        "meta": meta,
        "transaction": {"signatures": [item.signature], "message": {"accountKeys": keys}},
    }


def token_accounts(owner: str, balances: dict[str, int], mint: str | None) -> list[dict[str, Any]]:
    """The value of getTokenAccountsByOwner, jsonParsed. A wallet that never paid a fee has none yet."""
    held = [(token, units) for key, units in balances.items() if (token := find_token(key)) and mint in {None, key}]
    return [
        {
            "pubkey": token_account(owner, token.mint),
            "account": {
                "owner": TOKEN_PROGRAM,
                "lamports": 2_039_280,
                "executable": False,
                "data": {
                    "program": "spl-token",
                    "space": 165,
                    "parsed": {
                        "type": "account",
                        "info": {
                            "mint": token.mint,
                            "owner": owner,
                            "state": "initialized",
                            "tokenAmount": _amount(token.mint, units),
                        },
                    },
                },
            },
        }
        for token, units in held
    ]


def lamports(balances: dict[str, int]) -> int:
    """The native balance; a wallet never seen would be given the faucet's."""
    return balances.get(LAMPORTS, FAUCET[LAMPORTS])


def describe_error(err: ChainError) -> str:
    """An error as a node words it in a message."""
    if isinstance(err, str):
        return err
    index, detail = err["InstructionError"]
    reason = f"custom program error: {detail['Custom']:#x}" if isinstance(detail, dict) else detail
    return f"Error processing Instruction {index}: {reason}"


@lru_cache(maxsize=ACCOUNTS_CACHED)
def token_account(owner: str, mint: str) -> str:
    """A stable address for the owner's account of one token."""
    return str(Pubkey(hashlib.sha256(f"{owner}:{mint}".encode()).digest()))


def _balance(index: int, owner: str, token: Token, units: int) -> dict[str, Any]:
    return {
        "accountIndex": index,
        "mint": token.mint,
        "owner": owner,
        "programId": TOKEN_PROGRAM,
        "uiTokenAmount": _amount(token.mint, units),
    }


@lru_cache(maxsize=AMOUNTS_CACHED)
def _amount(mint: str, units: int) -> dict[str, Any]:
    # uiAmount is a lossy float on a real node, deprecated there; null is allowed and tells nobody anything wrong.
    token = find_token(mint)
    assert token, "only known tokens are shown"
    return {
        "amount": str(units),
        "decimals": token.decimals,
        "uiAmount": None,
        "uiAmountString": to_decimal_text(units, token),
    }
