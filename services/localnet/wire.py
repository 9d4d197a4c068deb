"""Swap instructions inside real Solana transactions: packed, built unsigned, parsed and verified.

Instruction data, little-endian: method (8 bytes), directions (a bit for each pool, from the lowest; 0: its first mint
in), amount in (u64), minimum out (u64), nonce (u64), length of the reference, reference (UTF-8). Accounts: payer, then
the pools the amount goes through, one after another.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

from solders.hash import Hash
from solders.instruction import CompiledInstruction
from solders.message import MessageHeader, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

RAYDIUM_PROGRAM = "CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C"
METEORA_PROGRAM = "LBUZKhRxPF3XUpBCjp4YzTKgLccjZhTSDM9YuVaPwxo"
ORCA_PROGRAM = "whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc"
COMPUTE_BUDGET_PROGRAM = "ComputeBudget111111111111111111111111111111"
MEMO_PROGRAM = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"
SWAP_PROGRAMS = frozenset({RAYDIUM_PROGRAM, METEORA_PROGRAM, ORCA_PROGRAM})
IGNORED_PROGRAMS = frozenset({COMPUTE_BUDGET_PROGRAM, MEMO_PROGRAM})

TRANSACTION_BYTES_MAX = 1232
REFERENCE_BYTES_MAX = 64
HOPS_MAX = 8  # as many directions as a byte has

_METHOD = hashlib.sha256(b"global:swap_base_input").digest()[:8]
_HEAD = struct.Struct("<8sBQQQB")
_ONE_SIGNER = MessageHeader(1, 0, 1)
_UNSIGNED = [Signature.default()]


class MalformedTransaction(ValueError):
    """The bytes are not a transaction this chain can read."""


class SignatureFailure(ValueError):
    """A signature does not belong to the message."""


class Hop(NamedTuple):
    """One pool on the way. `first_in`: its first mint is sold."""

    pool: str
    first_in: bool


class Swap(NamedTuple):
    """One swap over one pool or several: what comes out of one goes into the next."""

    hops: tuple[Hop, ...]
    amount_in: int
    minimum_out: int
    nonce: int
    reference: str


class Instruction(NamedTuple):
    """`swap` is None when the program is not a venue's or its data cannot be read; `memo` is what a memo says."""

    program: str
    swap: Swap | None
    memo: str = ""


class SignedTransaction(NamedTuple):
    """A verified transaction: all the chain needs of it."""

    signature: str
    payer: str
    blockhash: str
    signatures: int
    instructions: tuple[Instruction, ...]


def instruction_data(swap: Swap) -> bytes:
    """A swap as the venues' programs read it."""
    reference = swap.reference.encode()
    directions = sum(1 << place for place, hop in enumerate(swap.hops) if not hop.first_in)
    head = _HEAD.pack(_METHOD, directions, swap.amount_in, swap.minimum_out, swap.nonce, len(reference))
    return head + reference


def unsigned_swap(program: Pubkey, pools: Sequence[Pubkey], payer: Pubkey, blockhash: Hash, swap: Swap) -> str:
    """A version 0 transaction with an empty signature, base64. `pools`: of the swap's hops."""
    keys = [payer, *pools, program]
    instruction = CompiledInstruction(len(keys) - 1, instruction_data(swap), bytes(range(len(keys) - 1)))
    message = MessageV0(_ONE_SIGNER, keys, blockhash, [instruction], [])
    return base64.b64encode(bytes(VersionedTransaction.populate(message, _UNSIGNED))).decode()


def parse_transaction(raw: bytes) -> SignedTransaction:
    """Read and verify.

    Raises:
        MalformedTransaction: not a transaction, too large, or with address tables.
        SignatureFailure: a signature is missing or wrong.
    """
    if len(raw) > TRANSACTION_BYTES_MAX:
        raise MalformedTransaction(f"transaction of {len(raw)} bytes is larger than {TRANSACTION_BYTES_MAX}")
    try:
        transaction = VersionedTransaction.from_bytes(raw)
        message = transaction.message
        transaction.sanitize()
        verified = transaction.verify_with_results()
    except Exception as error:  # solders raises several unrelated types
        raise MalformedTransaction(f"failed to deserialize transaction: {error}") from None
    if isinstance(message, MessageV0) and message.address_table_lookups:
        raise MalformedTransaction("address lookup tables are not supported")
    if not verified or not all(verified):
        raise SignatureFailure("Transaction signature verification failure")
    keys = [str(key) for key in message.account_keys]
    return SignedTransaction(
        str(transaction.signatures[0]),
        keys[0],
        str(message.recent_blockhash),
        len(verified),
        tuple(_instruction(keys, compiled) for compiled in message.instructions),
    )


def decode_transaction(text: str, encoding: str) -> bytes:
    """The bytes of an encoded transaction: base64 or base58.

    Raises:
        MalformedTransaction: the text is not in that encoding.
    """
    if len(text) > 2 * TRANSACTION_BYTES_MAX:
        raise MalformedTransaction("encoded transaction is too large")
    try:
        return base64.b64decode(text, validate=True) if encoding == "base64" else _base58(text)
    except (binascii.Error, ValueError):
        raise MalformedTransaction(f"invalid {encoding} encoding") from None


def _instruction(keys: list[str], compiled: CompiledInstruction) -> Instruction:
    program = keys[compiled.program_id_index]
    if program == MEMO_PROGRAM:
        return Instruction(program, None, bytes(compiled.data)[:REFERENCE_BYTES_MAX].decode(errors="replace"))
    if program not in SWAP_PROGRAMS:
        return Instruction(program, None)
    pools, data = bytes(compiled.accounts)[1:], bytes(compiled.data)
    if len(data) < _HEAD.size or not 1 <= len(pools) <= HOPS_MAX:
        return Instruction(program, None)
    method, directions, amount_in, minimum_out, nonce, length = _HEAD.unpack_from(data)
    reference = data[_HEAD.size :]
    if method != _METHOD or directions >> len(pools) or length != len(reference) or length > REFERENCE_BYTES_MAX:
        return Instruction(program, None)
    try:
        text = reference.decode()
    except UnicodeDecodeError:
        return Instruction(program, None)
    hops = tuple(Hop(keys[pool], not directions >> place & 1) for place, pool in enumerate(pools))
    return Instruction(program, Swap(hops, amount_in, minimum_out, nonce, text))


_BASE58 = {char: value for value, char in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}


def _base58(text: str) -> bytes:
    number = 0
    for char in text:
        if char not in _BASE58:
            raise ValueError("not base58")
        number = number * 58 + _BASE58[char]
    zeros = len(text) - len(text.lstrip("1"))
    return b"\x00" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
