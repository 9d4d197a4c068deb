"""What a transaction says of its own cost: a program of the chain reads it, whatever else it does. Pure."""

from solders.message import Message, MessageV0
from solders.pubkey import Pubkey

COMPUTE_BUDGET = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
UNIT_LIMIT = 2  # what a budget's instruction is about is its first byte, the value the others
UNIT_PRICE = 3  # paid for each unit of the limit, used or not
UNITS_BY_DEFAULT = 200_000  # for each instruction of a transaction that sets no limit
UNITS_MAX = 1_400_000
LOADED_LIMIT = 4  # bytes of accounts, beyond which it fails; who says nothing may load as many as there may be
MICRO = 1_000_000  # prices are millionths of a lamport


def priority_lamports(message: Message | MessageV0) -> int:
    """What is paid beside the signature, for a place in a block: for all that it may use, used or not."""
    said: dict[int, int] = {}
    doing = 0
    for one in message.instructions:
        data = bytes(one.data)
        if message.account_keys[one.program_id_index] == COMPUTE_BUDGET and data:
            said[data[0]] = int.from_bytes(data[1:], "little")
        else:
            doing += 1
    units = min(UNITS_MAX, said.get(UNIT_LIMIT, UNITS_BY_DEFAULT * doing))
    return -(-said.get(UNIT_PRICE, 0) * units // MICRO)
