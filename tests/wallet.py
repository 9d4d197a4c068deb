"""A wallet for tests: signs what the local chain's venues build, and transactions of its own."""

import base64

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from services.localnet.chain import Chain
from services.localnet.quotes import Venue
from services.localnet.wire import SignedTransaction, parse_transaction


class Wallet:
    def __init__(self) -> None:
        self.keypair = Keypair()
        self.address = str(self.keypair.pubkey())

    def sign(self, unsigned: str) -> str:
        """An unsigned transaction, base64, signed."""
        message = VersionedTransaction.from_bytes(base64.b64decode(unsigned)).message
        return base64.b64encode(bytes(VersionedTransaction(message, [self.keypair]))).decode()

    def swap(
        self,
        chain: Chain,
        mint_in: str,
        mint_out: str,
        amount: int,
        *,
        venue: str = "raydium",
        slippage_bps: int = 50,
        reference: str = "order",
        minimum_out: int | None = None,
    ) -> SignedTransaction:
        """A signed swap at the venue's quote of now, or with a minimum of its own."""
        at = Venue(venue, chain)
        request = {"inputMint": mint_in, "outputMint": mint_out, "amount": amount, "slippageBps": slippage_bps}
        quote = at.quote(request)
        if minimum_out is not None:
            quote["otherAmountThreshold"] = str(minimum_out)
        body = {"quoteResponse": quote, "userPublicKey": self.address, "reference": reference}
        return parse_transaction(base64.b64decode(self.sign(at.swap(body)["swapTransaction"])))

    def transaction(self, blockhash: str, *calls: tuple[str, str, bytes]) -> SignedTransaction:
        """A signed transaction with any instructions: (program, pool, data)."""
        payer = self.keypair.pubkey()
        instructions = [
            Instruction(
                Pubkey.from_string(program),
                data,
                [
                    AccountMeta(payer, is_signer=True, is_writable=True),
                    AccountMeta(Pubkey.from_string(pool), False, True),
                ],
            )
            for program, pool, data in calls
        ]
        message = MessageV0.try_compile(payer, instructions, [], Hash.from_string(blockhash))
        return parse_transaction(bytes(VersionedTransaction(message, [self.keypair])))
