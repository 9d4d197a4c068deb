"""A transaction that names no order gets a memo that does, and is in all else what its venue built."""

import base64
from collections.abc import Sequence

import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, CompiledInstruction, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from libs.events.ids import new_order_id
from services.executor.memo import MEMO_PROGRAM
from services.executor.wallet import TRANSACTION_BYTES_MAX, UnacceptableTransaction, Wallet

KEY = Keypair()
WALLET = Wallet(str(KEY))
ORDER, OTHER = new_order_id(0), new_order_id(1)
POOL, TABLED, READ, PROGRAM = (Pubkey.new_unique() for _ in range(4))
TABLES = [AddressLookupTableAccount(Pubkey.new_unique(), [Pubkey.new_unique(), TABLED, READ])]


def swap(data: bytes = b"swap") -> Instruction:
    accounts = [
        AccountMeta(KEY.pubkey(), True, True),
        AccountMeta(POOL, False, True),
        AccountMeta(TABLED, False, True),
        AccountMeta(READ, False, False),
    ]
    return Instruction(PROGRAM, data, accounts)


def memo(text: str) -> Instruction:
    return Instruction(MEMO_PROGRAM, text.encode(), [])


def versioned(*instructions: Instruction, tables: Sequence[AddressLookupTableAccount] = ()) -> Message | MessageV0:
    return MessageV0.try_compile(KEY.pubkey(), list(instructions), list(tables), Hash.new_unique())


def legacy(*instructions: Instruction) -> Message | MessageV0:
    return Message.new_with_blockhash(list(instructions), KEY.pubkey(), Hash.new_unique())


def text_of(message: Message | MessageV0) -> str:
    return base64.b64encode(bytes(VersionedTransaction.populate(message, [Signature.default()]))).decode()


def signed(message: Message | MessageV0, order_id: str = ORDER) -> VersionedTransaction:
    transaction = VersionedTransaction.from_bytes(base64.b64decode(WALLET.sign(text_of(message), order_id).transaction))
    assert transaction.verify_with_results() == [True]
    return transaction


def may_write(message: Message | MessageV0, at: int) -> bool:
    """By the header: those that sign come first, and of both kinds the ones that are only read last."""
    header, signers = message.header, message.header.num_required_signatures
    if at < signers:
        return at < signers - header.num_readonly_signed_accounts
    return at < len(message.account_keys) - header.num_readonly_unsigned_accounts


def resolved(message: Message | MessageV0) -> list[tuple[Pubkey, bytes, list[tuple[Pubkey, bool]]]]:
    """Each instruction with the accounts it means, and whether it may write them, as the chain finds them."""
    keys = list(message.account_keys)
    writable = [may_write(message, at) for at in range(len(keys))]
    for lookup in message.address_table_lookups if isinstance(message, MessageV0) else ():
        (table,) = [one for one in TABLES if one.key == lookup.account_key]
        for places, written in ((lookup.writable_indexes, True), (lookup.readonly_indexes, False)):
            keys += [table.addresses[at] for at in bytes(places)]
            writable += [written] * len(bytes(places))
    return [
        (keys[one.program_id_index], bytes(one.data), [(keys[at], writable[at]) for at in bytes(one.accounts)])
        for one in message.instructions
    ]


BUILT = [
    legacy(swap()),
    versioned(swap()),
    versioned(swap(), tables=TABLES),
    versioned(memo("for nobody"), swap(), tables=TABLES),
    legacy(swap(), memo("for nobody")),
]


@pytest.mark.parametrize("message", BUILT, ids=range(len(BUILT)))
def test_all_that_the_venue_wants_done_is_done_as_before(message: Message | MessageV0) -> None:
    after = signed(message).message
    assert isinstance(after, type(message))
    assert resolved(after) == [*resolved(message), (MEMO_PROGRAM, ORDER.encode(), [])]
    assert after.recent_blockhash == message.recent_blockhash
    assert list(after.account_keys).count(MEMO_PROGRAM) == 1
    assert after.header.num_required_signatures == 1


def test_the_memo_program_is_not_written() -> None:
    after = signed(versioned(swap())).message
    assert isinstance(after, MessageV0)
    assert not may_write(after, list(after.account_keys).index(MEMO_PROGRAM))


def test_the_same_order_is_one_transaction_whoever_signs_and_another_is_another() -> None:
    message = versioned(swap())
    assert signed(message) == signed(message)
    assert signed(message).signatures != signed(message, OTHER).signatures


def test_what_names_its_order_is_signed_as_it_is() -> None:
    message = versioned(swap(b"for " + ORDER.encode()))
    assert signed(message).message == message


@pytest.mark.parametrize("beside", ["", ORDER, f"{ORDER}{OTHER}"], ids=["alone", "beside ours", "beside both"])
def test_what_names_another_order_is_not_signed_for_either(beside: str) -> None:
    message = versioned(swap(beside.encode()), memo(OTHER))
    with pytest.raises(UnacceptableTransaction, match="names another order"):
        WALLET.sign(text_of(message), ORDER)
    if beside:
        with pytest.raises(UnacceptableTransaction, match="names another order"):
            WALLET.sign(text_of(message), OTHER)


def test_where_a_packet_has_no_room_for_the_memo_it_is_not_signed() -> None:
    grows = len(bytes(signed(versioned(swap())))) - len(base64.b64decode(text_of(versioned(swap()))))

    def sized(total: int) -> Message | MessageV0:
        short = len(base64.b64decode(text_of(versioned(swap(bytes(700))))))
        return versioned(swap(bytes(700 + total - short)))

    assert len(bytes(signed(sized(TRANSACTION_BYTES_MAX - grows)))) == TRANSACTION_BYTES_MAX
    with pytest.raises(UnacceptableTransaction, match=r"with a memo that names the order .* 1233 bytes"):
        WALLET.sign(text_of(sized(TRANSACTION_BYTES_MAX - grows + 1)), ORDER)


def test_where_as_many_accounts_are_named_as_may_be_it_is_not_signed() -> None:
    table = AddressLookupTableAccount(Pubkey.new_unique(), [Pubkey.new_unique() for _ in range(253)])
    accounts = [AccountMeta(key, False, False) for key in table.addresses]
    message = versioned(Instruction(PROGRAM, b"", accounts), tables=[table])
    assert isinstance(message, MessageV0)
    listed = len(message.account_keys)
    instructions = [CompiledInstruction(listed - 1, b"", bytes(range(listed, 256)))]
    full = MessageV0(
        message.header, message.account_keys, message.recent_blockhash, instructions, message.address_table_lookups
    )
    with pytest.raises(UnacceptableTransaction):
        WALLET.sign(text_of(full), ORDER)
