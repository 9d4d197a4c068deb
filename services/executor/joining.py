"""The transactions of an order's legs made one: it takes place as a whole or not at all. Pure."""

from collections.abc import Mapping, Sequence

from solders.instruction import CompiledInstruction
from solders.message import Message, MessageHeader, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from libs.events.model import U64_MAX, Route
from services.executor.budget import COMPUTE_BUDGET, LOADED_LIMIT, UNIT_LIMIT, UNIT_PRICE, UNITS_BY_DEFAULT, UNITS_MAX


def least_of_legs(route: Route) -> list[int]:
    """What must come out of each leg, so that together it is the route's least: in proportion to their quotes."""
    least: list[int] = []
    quoted = 0
    for leg in route.legs:
        quoted += leg.amount_out
        least.append(route.min_out * quoted // route.quoted_out - sum(least))
    return least


def joined(transactions: Sequence[VersionedTransaction]) -> VersionedTransaction:
    """All that they want done, in their order, unsigned, bound to the blockhash of the first.

    Raises:
        ValueError: one needs another signature than its payer's, who is not the same, or has tables of addresses:
            what is in them is not known here, and no account may be named twice.
    """
    messages = [_message(transaction) for transaction in transactions]
    payer = messages[0].account_keys[0]
    written: dict[Pubkey, bool] = {}
    for message in messages:
        if message.account_keys[0] != payer or message.header.num_required_signatures != 1:
            raise ValueError("they are not of one wallet alone")
        for place, key in enumerate(message.account_keys):
            written[key] = written.get(key, False) or place < len(message.account_keys) - _readonly(message)
    keys = sorted(written, key=lambda key: (key != payer, not written[key]))  # the payer, those written, the others
    places = {key: place for place, key in enumerate(keys)}
    budget, doing = _apart(messages, places)
    header = MessageHeader(1, 0, sum(not writes for writes in written.values()))
    whole = MessageV0(header, keys, messages[0].recent_blockhash, [*budget, *doing], [])
    return VersionedTransaction.populate(whole, [Signature.default()])


def _message(transaction: VersionedTransaction) -> Message | MessageV0:
    message = transaction.message
    if not isinstance(message, Message | MessageV0):
        raise ValueError("a message of another version")
    if isinstance(message, MessageV0) and message.address_table_lookups:
        raise ValueError("one has tables of addresses")
    return message


def _readonly(message: Message | MessageV0) -> int:
    return message.header.num_readonly_unsigned_accounts


def _apart(
    messages: Sequence[Message | MessageV0], places: Mapping[Pubkey, int]
) -> tuple[list[CompiledInstruction], list[CompiledInstruction]]:
    """What it may cost, and what it does. A transaction says each thing about its budget once."""
    budgets: list[dict[int, bytes]] = []
    doing: list[CompiledInstruction] = []
    units: list[int] = []
    for message in messages:
        keys, budget, before = message.account_keys, dict[int, bytes](), len(doing)
        for one in message.instructions:
            data = bytes(one.data)
            if keys[one.program_id_index] == COMPUTE_BUDGET and data:
                budget[data[0]] = data[1:]
                continue
            accounts = bytes(places[keys[at]] for at in one.accounts)
            doing.append(CompiledInstruction(places[keys[one.program_id_index]], data, accounts))
        units.append(_number(budget.get(UNIT_LIMIT)) or UNITS_BY_DEFAULT * (len(doing) - before))
        budgets.append(budget)
    together = _budget_of_all(budgets, units)
    said = [CompiledInstruction(places[COMPUTE_BUDGET], bytes([kind]) + data, b"") for kind, data in together.items()]
    return said, doing


def _budget_of_all(budgets: Sequence[Mapping[int, bytes]], units: Sequence[int]) -> dict[int, bytes]:
    """Limits added up, a price at which it costs what they cost alone, and of all else the highest.

    `units`: what each may use, said or not.
    """
    kinds = sorted(set().union(*budgets))
    highest = {kind: max((budget[kind] for budget in budgets if kind in budget), key=_number) for kind in kinds}
    limit = min(UNITS_MAX, sum(units))
    if UNIT_LIMIT in highest:
        highest[UNIT_LIMIT] = limit.to_bytes(4, "little")
    if UNIT_PRICE in highest:
        paid = sum(_number(budget.get(UNIT_PRICE)) * used for budget, used in zip(budgets, units, strict=True))
        highest[UNIT_PRICE] = min(U64_MAX, -(-paid // max(1, limit))).to_bytes(8, "little")
    if highest.pop(LOADED_LIMIT, None) and all(loaded := [_number(budget.get(LOADED_LIMIT)) for budget in budgets]):
        highest[LOADED_LIMIT] = min(2**32 - 1, sum(loaded)).to_bytes(4, "little")
    return highest


def _number(data: bytes | None) -> int:
    return int.from_bytes(data or b"", "little")
