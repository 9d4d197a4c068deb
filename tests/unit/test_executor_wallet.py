"""The wallet signs what expires and asks for its signature alone, and nothing else."""

import base64

import pytest
from solders.hash import Hash
from solders.instruction import AccountMeta, CompiledInstruction, Instruction
from solders.keypair import Keypair
from solders.message import MessageHeader, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import AdvanceNonceAccountParams, advance_nonce_account
from solders.transaction import VersionedTransaction

from services.executor.budget import COMPUTE_BUDGET, UNIT_LIMIT, UNIT_PRICE
from services.executor.wallet import (
    PRIORITY_LAMPORTS_MAX,
    TRANSACTION_BYTES_MAX,
    UnacceptableTransaction,
    Wallet,
    blockhash_of,
)

KEY = Keypair()
WALLET = Wallet(str(KEY))
PROGRAM = Pubkey.new_unique()


def unsigned(
    payer: Pubkey | None = None,
    *instructions: Instruction,
    blockhash: Hash | None = None,
) -> str:
    payer = payer or KEY.pubkey()
    message = MessageV0.try_compile(
        payer,
        list(instructions) or [Instruction(PROGRAM, b"swap of order", [AccountMeta(payer, True, True)])],
        [],
        blockhash or Hash.new_unique(),
    )
    signatures = [Signature.default()] * message.header.num_required_signatures
    return base64.b64encode(bytes(VersionedTransaction.populate(message, signatures))).decode()


def test_it_signs_with_its_own_key_the_same_message() -> None:
    text = unsigned()
    signed = WALLET.sign(text, "order")
    transaction = VersionedTransaction.from_bytes(base64.b64decode(signed.transaction))
    assert transaction.message == VersionedTransaction.from_bytes(base64.b64decode(text)).message
    assert transaction.verify_with_results() == [True]
    assert signed.signature == str(transaction.signatures[0])
    assert WALLET.sign(text, "order") == signed  # the same order signed by two workers is one transaction


def test_the_blockhash_of_a_transaction_is_read_back() -> None:
    blockhash = Hash.new_unique()
    assert blockhash_of(WALLET.sign(unsigned(blockhash=blockhash), "order").transaction) == str(blockhash)


def test_another_payer_is_refused() -> None:
    with pytest.raises(UnacceptableTransaction, match="alone"):
        WALLET.sign(unsigned(Pubkey.new_unique()), "order")


def test_a_second_signer_is_refused() -> None:
    other = AccountMeta(Pubkey.new_unique(), True, False)
    with pytest.raises(UnacceptableTransaction, match="alone"):
        WALLET.sign(unsigned(None, Instruction(PROGRAM, b"", [AccountMeta(KEY.pubkey(), True, True), other])), "order")


def test_what_never_expires_is_refused() -> None:
    with pytest.raises(UnacceptableTransaction, match="no blockhash"):
        WALLET.sign(unsigned(blockhash=Hash.default()), "order")
    nonce = advance_nonce_account(
        AdvanceNonceAccountParams(nonce_pubkey=Pubkey.new_unique(), authorized_pubkey=KEY.pubkey())
    )
    with pytest.raises(UnacceptableTransaction, match="never expires"):
        WALLET.sign(unsigned(None, nonce), "order")


@pytest.mark.parametrize(
    "text", ["", "AQ==", "not base64!", "A" * 400, base64.b64encode(b"\x80" * 200).decode(), "\u00e4", "A" * 10_000]
)
def test_what_is_no_transaction_is_refused(text: str) -> None:
    with pytest.raises(UnacceptableTransaction):
        WALLET.sign(text, "order")


def test_what_does_not_fit_a_packet_is_refused() -> None:
    large = Instruction(PROGRAM, bytes(1_200), [AccountMeta(KEY.pubkey(), True, True)])
    with pytest.raises(UnacceptableTransaction, match="1232"):
        WALLET.sign(unsigned(None, large), "order")


@pytest.mark.parametrize("secret", ["", "abc", "1" * 88, "0OIl", "x" * 500])
def test_a_secret_that_is_no_key_is_one_clear_error_that_does_not_show_it(secret: str) -> None:
    with pytest.raises(ValueError, match=r"^the key must be 64 bytes in base58$"):
        Wallet(secret)


def sized(extra: int) -> str:
    """A transaction of one packet and so many bytes more."""
    data = b"order" + b"x" * 900
    missing = TRANSACTION_BYTES_MAX - len(base64.b64decode(unsigned(None, calling(data))))
    return unsigned(None, calling(data + b"x" * (missing + extra)))


def budget(kind: int, value: int, size: int) -> Instruction:
    return Instruction(COMPUTE_BUDGET, bytes([kind]) + value.to_bytes(size, "little"), [])


@pytest.mark.parametrize(
    ("units", "price", "lamports"),
    [
        (1_400_000, 14_285_714, 20_000_000),
        (1_400_000, 14_285_715, 20_000_001),
        (2**32 - 1, 14_285_715, 20_000_001),
        (None, 100_000_000, 20_000_000),
        (None, 100_000_001, 20_000_001),
        (1, 2**64 - 1, 18_446_744_073_710),
        (1_400_000, None, 0),
    ],
)
def test_no_more_is_paid_for_a_place_in_a_block_than_was_settled_on(
    units: int | None, price: int | None, lamports: int
) -> None:
    said = [budget(UNIT_LIMIT, units, 4)] if units is not None else []
    said += [budget(UNIT_PRICE, price, 8)] if price is not None else []
    text = unsigned(None, *said, calling(b"order"))
    if lamports <= PRIORITY_LAMPORTS_MAX:
        assert WALLET.sign(text, "order")
        return
    with pytest.raises(UnacceptableTransaction, match=f"pays {lamports} lamports for a place in a block; at most"):
        WALLET.sign(text, "order")
    with pytest.raises(UnacceptableTransaction, match="lamports for a place in a block; at most"):
        WALLET.sign_all([text, text], "order")


def calling(data: bytes) -> Instruction:
    return Instruction(PROGRAM, data, [AccountMeta(KEY.pubkey(), True, True)])


def test_a_transaction_fills_a_packet_and_no_more() -> None:
    assert WALLET.sign(sized(0), "order")
    for extra in (1, 300):
        with pytest.raises(UnacceptableTransaction, match="a packet holds"):
            WALLET.sign(sized(extra), "order")
    with pytest.raises(UnacceptableTransaction, match="larger than one packet"):
        WALLET.sign("A" * (2 * TRANSACTION_BYTES_MAX + 4), "order")


def test_a_transaction_that_names_accounts_it_does_not_list_is_none() -> None:
    beyond = CompiledInstruction(9, b"order", bytes([0]))
    keys = [KEY.pubkey(), PROGRAM]
    message = MessageV0(MessageHeader(1, 0, 1), keys, Hash.new_unique(), [beyond], [])
    odd = base64.b64encode(bytes(VersionedTransaction.populate(message, [Signature.default()]))).decode()
    with pytest.raises(UnacceptableTransaction, match="not a transaction"):
        WALLET.sign(odd, "order")
