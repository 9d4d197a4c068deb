"""A memo that names an order, in a transaction whose venue put none there. Pure."""

import re

from solders.instruction import CompiledInstruction
from solders.message import Message, MessageHeader, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

MEMO_PROGRAM = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
_ORDER_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


def orders_named(message: bytes) -> set[str]:
    """The ids of all orders that a message holds."""
    return {found.decode() for found in _ORDER_ID.findall(message)}


def named(transaction: VersionedTransaction, order_id: str) -> VersionedTransaction:
    """The transaction, unsigned, with a memo behind all that its venue wants done.

    Raises:
        ValueError: it has no room for another account, or is of a version not known here.
    """
    message = transaction.message
    if not isinstance(message, Message | MessageV0):
        raise ValueError("a message of another version")
    header, keys = message.header, list(message.account_keys)
    listed = len(keys)
    memo_at = keys.index(MEMO_PROGRAM) if MEMO_PROGRAM in keys else listed
    if memo_at == listed:  # the last of those listed, which are neither signed nor written
        keys.append(MEMO_PROGRAM)
    added = len(keys) - listed
    signed, signed_readonly = header.num_required_signatures, header.num_readonly_signed_accounts
    readonly, blockhash = header.num_readonly_unsigned_accounts + added, message.recent_blockhash
    instructions = [_moved(one, listed, added) for one in message.instructions]
    instructions.append(CompiledInstruction(memo_at, order_id.encode(), b""))
    whole: Message | MessageV0
    if isinstance(message, MessageV0):
        header = MessageHeader(signed, signed_readonly, readonly)
        whole = MessageV0(header, keys, blockhash, instructions, message.address_table_lookups)
    else:
        whole = Message.new_with_compiled_instructions(signed, signed_readonly, readonly, keys, blockhash, instructions)
    return VersionedTransaction.populate(whole, [Signature.default()] * signed)


def _moved(one: CompiledInstruction, listed: int, added: int) -> CompiledInstruction:
    """With so many accounts more listed: those from tables are counted on from them."""
    places = bytes(at + added if at >= listed else at for at in one.accounts)
    return CompiledInstruction(one.program_id_index, one.data, places)
