"""The chain's facts as Solana's JSON shows them."""

import hashlib
from typing import Any

from solders.pubkey import Pubkey

from libs.venues.tokens import Token, find_token, to_decimal_text
from services.localnet.blocks import Outcome
from services.localnet.chain import FAUCET
from services.localnet.execution import LAMPORTS, ChainError
from services.localnet.storage import Stored

TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"  # noqa: S105  (an address)


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
    changed = [(token, units) for mint, units in item.balances.items() if (token := find_token(mint))]
    before, after = item.balances.get(LAMPORTS, (0, 0))
    keys = [item.payer, *(token_account(item.payer, token.mint) for token, _ in changed)]
    meta = {
        "err": item.err,
        "status": {"Ok": None} if item.err is None else {"Err": item.err},
        "fee": item.fee,
        "preBalances": [before],
        "postBalances": [after],
        "preTokenBalances": [_balance(i, item.payer, token, had) for i, (token, (had, _)) in enumerate(changed, 1)],
        "postTokenBalances": [_balance(i, item.payer, token, has) for i, (token, (_, has)) in enumerate(changed, 1)],
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
                            "tokenAmount": _amount(token, units),
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


def token_account(owner: str, mint: str) -> str:
    """A stable address for the owner's account of one token."""
    return str(Pubkey(hashlib.sha256(f"{owner}:{mint}".encode()).digest()))


def _balance(index: int, owner: str, token: Token, units: int) -> dict[str, Any]:
    return {
        "accountIndex": index,
        "mint": token.mint,
        "owner": owner,
        "programId": TOKEN_PROGRAM,
        "uiTokenAmount": _amount(token, units),
    }


def _amount(token: Token, units: int) -> dict[str, Any]:
    # uiAmount is a lossy float on a real node, deprecated there; null is allowed and tells nobody anything wrong.
    return {
        "amount": str(units),
        "decimals": token.decimals,
        "uiAmount": None,
        "uiAmountString": to_decimal_text(units, token),
    }
