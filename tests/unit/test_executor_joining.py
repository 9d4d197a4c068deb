"""The legs of an order in one transaction: each does what it did alone, in its order, and all or nothing happens."""

import base64
from collections.abc import Sequence

import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from libs.events.ids import new_order_id
from services.executor.budget import COMPUTE_BUDGET, UNIT_LIMIT, UNITS_BY_DEFAULT, UNITS_MAX
from services.executor.joining import joined, least_of_legs
from services.executor.wallet import TRANSACTION_BYTES_MAX, UnacceptableTransaction, Wallet
from tests.builders import route_selected

KEY = Keypair()
WALLET = Wallet(str(KEY))
ORDER = new_order_id(0)
PRICE, HEAP, LOADED = 3, 1, 4
FIRST, SECOND, SHARED, READ, PROGRAM, OTHER_PROGRAM = (Pubkey.new_unique() for _ in range(6))

Does = tuple[Pubkey, bytes, list[tuple[Pubkey, bool]]]


def swap(program: Pubkey, data: bytes, *accounts: tuple[Pubkey, bool]) -> Instruction:
    """Accounts with whether they are written."""
    payer = AccountMeta(KEY.pubkey(), True, True)
    return Instruction(program, data, [payer, *(AccountMeta(key, False, written) for key, written in accounts)])


def budget(kind: int, value: int) -> Instruction:
    return Instruction(COMPUTE_BUDGET, bytes([kind]) + value.to_bytes(8 if kind == PRICE else 4, "little"), [])


def unsigned(message: Message | MessageV0) -> VersionedTransaction:
    signers = message.header.num_required_signatures
    return VersionedTransaction.populate(message, [Signature.default()] * signers)


def built(
    *instructions: Instruction, tables: Sequence[AddressLookupTableAccount] = (), payer: Pubkey | None = None
) -> VersionedTransaction:
    payer = payer or KEY.pubkey()
    return unsigned(MessageV0.try_compile(payer, list(instructions), list(tables), Hash.new_unique()))


def does(transaction: VersionedTransaction) -> list[Does]:
    """Every instruction: the program, its data, its accounts with whether they may be written."""
    message = transaction.message
    keys, readonly = message.account_keys, message.header.num_readonly_unsigned_accounts
    return [
        (
            keys[one.program_id_index],
            bytes(one.data),
            [(keys[at], at < len(keys) - readonly) for at in bytes(one.accounts)],
        )
        for one in message.instructions
    ]


ONE = swap(PROGRAM, b"one", (FIRST, True), (SHARED, False), (READ, False))
TWO = swap(OTHER_PROGRAM, b"two", (SECOND, True), (SHARED, True), (READ, False))
PAYER = (KEY.pubkey(), True)


@pytest.mark.parametrize("legacy", [False, True])
def test_each_does_what_it_did_in_its_order_and_what_one_writes_may_be_written(legacy: bool) -> None:
    first, second = built(ONE), built(TWO)
    if legacy:
        second = unsigned(Message.new_with_blockhash([TWO], KEY.pubkey(), Hash.new_unique()))
    whole = joined([first, second])
    whole.sanitize()
    assert does(whole) == [
        (PROGRAM, b"one", [PAYER, (FIRST, True), (SHARED, True), (READ, False)]),
        (OTHER_PROGRAM, b"two", [PAYER, (SECOND, True), (SHARED, True), (READ, False)]),
    ]
    assert len(set(whole.message.account_keys)) == len(whole.message.account_keys) == 7
    assert whole.message.recent_blockhash == first.message.recent_blockhash
    assert whole.message.header.num_required_signatures == 1
    assert (SHARED, True) in does(joined([second, first]))[1][2], "whichever comes first"


def test_it_is_signed_as_any_other() -> None:
    texts = [base64.b64encode(bytes(built(one))).decode() for one in (ONE, TWO)]
    signed = VersionedTransaction.from_bytes(base64.b64decode(WALLET.sign_all(texts, ORDER).transaction))
    assert signed.verify_with_results() == [True]
    assert [data for _, data, _ in does(signed)] == [b"one", b"two", ORDER.encode()]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([], [], []),
        ([budget(UNIT_LIMIT, 70_000)], [budget(UNIT_LIMIT, 80_000)], [(UNIT_LIMIT, 150_000)]),
        ([budget(UNIT_LIMIT, 70_000)], [], [(UNIT_LIMIT, 70_000 + 2 * UNITS_BY_DEFAULT)]),
        ([budget(UNIT_LIMIT, UNITS_MAX)], [budget(UNIT_LIMIT, 1)], [(UNIT_LIMIT, UNITS_MAX)]),
        ([budget(PRICE, 256)], [budget(PRICE, 255), budget(HEAP, 9)], [(HEAP, 9), (PRICE, 256)]),
        ([budget(LOADED, 30_000)], [budget(LOADED, 40_000)], [(LOADED, 70_000)]),
        ([budget(LOADED, 30_000)], [], []),
    ],
)
def test_a_budget_is_said_once(
    first: list[Instruction], second: list[Instruction], said: list[tuple[int, int]]
) -> None:
    whole = does(joined([built(*first, ONE), built(TWO, ONE, *second)]))
    budgets = [(data[0], int.from_bytes(data[1:], "little")) for program, data, _ in whole if program == COMPUTE_BUDGET]
    assert budgets == said
    assert [data for program, data, _ in whole if program != COMPUTE_BUDGET] == [b"one", b"two", b"one"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((1_400_000, 1_000), (10_000, 1_000_000)),
        ((10_000, 1_000_000), (600_000, 0)),
        ((UNITS_MAX, 7), (UNITS_MAX, 9)),
        ((1, 2**64 - 1), (1, 2**64 - 1)),
    ],
)
def test_together_they_pay_no_more_for_their_priority_than_alone(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    alone = [(budget(UNIT_LIMIT, units), budget(PRICE, price)) for units, price in (first, second)]
    whole = does(joined([built(*said, ONE) for said in alone]))
    said = {data[0]: int.from_bytes(data[1:], "little") for program, data, _ in whole if program == COMPUTE_BUDGET}
    paid = said[UNIT_LIMIT] * said[PRICE]
    wanted = sum(units * price for units, price in (first, second))
    assert wanted <= paid <= wanted + UNITS_MAX  # a price is whole: less than two lamports more


def test_what_no_price_can_say_is_the_highest_there_is() -> None:
    dear = built(budget(UNIT_LIMIT, UNITS_MAX), budget(PRICE, 2**64 - 1), ONE)
    assert (COMPUTE_BUDGET, bytes([PRICE]) + b"\xff" * 8, []) in does(joined([dear, dear]))


def test_what_cannot_be_joined_is_refused() -> None:
    table = AddressLookupTableAccount(Pubkey.new_unique(), [READ, SECOND])
    odd = {
        "tables of addresses": built(TWO, tables=[table]),
        "not of one wallet": built(payer=Pubkey.new_unique()),
        "one wallet alone": built(Instruction(PROGRAM, b"", [AccountMeta(Pubkey.new_unique(), True, False)])),
    }
    for why, second in odd.items():
        with pytest.raises(UnacceptableTransaction, match=why):
            WALLET.sign_all([base64.b64encode(bytes(one)).decode() for one in (built(ONE), second)], ORDER)


def test_no_leg_is_another_orders() -> None:
    texts = [
        base64.b64encode(bytes(built(swap(PROGRAM, order_id.encode(), (FIRST, True))))).decode()
        for order_id in (ORDER, new_order_id(0))
    ]
    assert WALLET.sign_all([texts[0], texts[0]], ORDER)
    for legs in (texts, texts[::-1]):
        with pytest.raises(UnacceptableTransaction, match="names another order"):
            WALLET.sign_all(legs, ORDER)


def test_a_transaction_that_became_too_large_is_refused() -> None:
    half = swap(PROGRAM, bytes(TRANSACTION_BYTES_MAX // 2), (FIRST, True))
    with pytest.raises(UnacceptableTransaction, match=f"a packet holds {TRANSACTION_BYTES_MAX}"):
        WALLET.sign_all([base64.b64encode(bytes(built(half))).decode()] * 2, ORDER)


@pytest.mark.parametrize(
    ("outs", "least", "parts"),
    [
        ([100], 99, [99]),
        ([50, 50], 99, [49, 50]),
        ([50, 50], 100, [50, 50]),
        ([1, 1, 1], 2, [0, 1, 1]),
        ([10, 0], 5, [5, 0]),
        ([700, 300], 995, [696, 299]),
    ],
)
def test_the_least_of_an_order_is_that_of_its_legs(outs: list[int], least: int, parts: list[int]) -> None:
    route = route_selected().route
    legs = tuple(route.legs[0].model_copy(update={"amount_out": out}) for out in outs)
    shared = route.model_copy(update={"legs": legs, "quoted_out": sum(outs), "min_out": least})
    assert least_of_legs(shared) == parts
