"""The key that signs, and what it refuses to sign."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from nacl.bindings import crypto_sign  # half of what the same signature costs in solders
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.signature import Signature
from solders.transaction import SanitizeError, VersionedTransaction

from services.executor.budget import COMPUTE_BUDGET, priority_lamports
from services.executor.joining import joined
from services.executor.memo import named, orders_named

SIGNATURE_BYTES = 64
TRANSACTION_BYTES_MAX = 1_232  # one packet: the chain takes nothing larger
# Paid by this wallet whatever comes of the transaction, and by no venue: one that errs in a unit would empty it.
PRIORITY_LAMPORTS_MAX = 20_000_000
_BUDGET = bytes(COMPUTE_BUDGET)


class UnacceptableTransaction(Exception):
    """Not to be signed; the text says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction that can be sent. `transaction` is base64."""

    signature: str
    transaction: str


class Wallet:
    """One key pair. Its secret is never shown."""

    def __init__(self, secret: str) -> None:
        """`secret`: the 64 bytes of the key pair in base58. Raises ValueError when it is not that."""
        try:
            keypair = Keypair.from_base58_string(secret)
        except ValueError:
            raise ValueError("the key must be 64 bytes in base58") from None
        self._secret = bytes(keypair)
        self._key = keypair.pubkey()
        self.address = str(self._key)

    def sign_all(self, unsigned: Sequence[str], order_id: str) -> Signed:
        """`sign` what several want done as one transaction, bound to the block of the first."""
        if len(unsigned) == 1:
            return self.sign(unsigned[0], order_id)
        legs = [parsed(transaction) for transaction in unsigned]
        for leg in legs:  # one that is this order's would vouch for another's
            _is_named(bytes(leg), order_id)
        try:
            whole = joined(legs)
        except ValueError as error:
            raise UnacceptableTransaction(f"the legs' transactions cannot be made one: {error}") from None
        return self.sign(base64.b64encode(bytes(whole)).decode(), order_id)

    def sign(self, unsigned: str, order_id: str) -> Signed:
        """Check and sign for this order alone: the chain takes a transaction once, however many orders wait for it.

        So it must name the order, as its venue was asked to have it do: what names none may be built for two alike, and
        be signed for the other by an executor that this one knows nothing of. It gets a memo that does. One that names
        another order is that order's.

        What the instructions do cannot be checked for venues in general; what the signature is good for can: it must
        be the only one asked for, ours, and bound to a recent block so that it expires. So can what is paid for a place
        in that block.

        Raises:
            UnacceptableTransaction: see above, or not a transaction at all.
        """
        transaction = parsed(unsigned)
        message = transaction.message
        if message.header.num_required_signatures != 1 or message.account_keys[0] != self._key:
            raise UnacceptableTransaction("the transaction asks for signatures other than this wallet's alone")
        if message.recent_blockhash == Hash.default():
            raise UnacceptableTransaction("the transaction has no blockhash")
        if transaction.uses_durable_nonce():
            raise UnacceptableTransaction("the transaction never expires: it uses a durable nonce")
        # One signature, so one byte that counts it, its place, and the message.
        plain = bytes(transaction)
        if _BUDGET in plain:
            _check_priority(message)
        count, to_sign = plain[:1], plain[1 + SIGNATURE_BYTES :]
        if not _is_named(to_sign, order_id):
            to_sign = _with_memo(transaction, order_id)[1 + SIGNATURE_BYTES :]
        signature = crypto_sign(to_sign, self._secret)[:SIGNATURE_BYTES]
        return Signed(str(Signature(signature)), base64.b64encode(count + signature + to_sign).decode())


def _check_priority(message: object) -> None:
    if not isinstance(message, Message | MessageV0):
        raise UnacceptableTransaction("a message of another version says what it pays")
    if (lamports := priority_lamports(message)) > PRIORITY_LAMPORTS_MAX:
        why = f"the transaction pays {lamports} lamports for a place in a block; at most {PRIORITY_LAMPORTS_MAX}"
        raise UnacceptableTransaction(why)


def _is_named(plain: bytes, order_id: str) -> bool:
    """Raises UnacceptableTransaction: it names another order."""
    if orders_named(plain) - {order_id}:  # beside this one, too: it would be signed for both
        raise UnacceptableTransaction("the transaction names another order")
    return order_id.encode() in plain


def _with_memo(transaction: VersionedTransaction, order_id: str) -> bytes:
    try:
        plain = bytes(named(transaction, order_id))
    except ValueError as error:
        raise UnacceptableTransaction(f"no memo can be added to name the order: {error}") from None
    if len(plain) > TRANSACTION_BYTES_MAX:
        why = f"with a memo that names the order the transaction has {len(plain)} bytes"
        raise UnacceptableTransaction(f"{why}; a packet holds {TRANSACTION_BYTES_MAX}")
    return plain


def blockhash_of(transaction: str) -> str:
    """The blockhash a transaction (base64) is bound to."""
    return str(parsed(transaction).message.recent_blockhash)


def payer_of(transaction: str) -> str:
    """The wallet that a transaction (base64) is of: an order may be settled when another key signs already."""
    return str(parsed(transaction).message.account_keys[0])


def parsed(text: str) -> VersionedTransaction:
    """Raises UnacceptableTransaction: not base64 of a transaction, or larger than a packet."""
    if len(text) > 2 * TRANSACTION_BYTES_MAX:
        raise UnacceptableTransaction("the transaction is larger than one packet")
    try:
        raw = base64.b64decode(text, validate=True)
        transaction = VersionedTransaction.from_bytes(raw)
        transaction.sanitize()
    except (ValueError, binascii.Error, SanitizeError) as error:
        raise UnacceptableTransaction(f"not a transaction: {error}") from None
    if len(raw) > TRANSACTION_BYTES_MAX:
        raise UnacceptableTransaction(f"the transaction has {len(raw)} bytes; a packet holds {TRANSACTION_BYTES_MAX}")
    return transaction
