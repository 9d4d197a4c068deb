"""One venue's quote and swap API, shaped after Jupiter's: plain values in, plain values out, no HTTP."""

import secrets
from typing import Any

from solders.hash import Hash
from solders.pubkey import Pubkey

from libs.venues.book import mints, quote_exact_in
from libs.venues.errors import AmountTooSmall, InsufficientLiquidity
from libs.venues.tokens import U64_MAX, find_token
from services.localnet.chain import BLOCKHASH_HEIGHTS, FEE_PER_SIGNATURE, Chain
from services.localnet.pools import LABELS, PROGRAMS
from services.localnet.wire import REFERENCE_BYTES_MAX, Swap, unsigned_swap

BPS = 10_000
DEFAULT_SLIPPAGE_BPS = 50
NUMBER_CHARS_MAX = 20


class Refused(Exception):
    """Answered as `{"error", "errorCode"}` with an HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        self.code, self.message, self.status = code, message, status

    def body(self) -> dict[str, str]:
        return {"error": self.message, "errorCode": self.code}


class Venue:
    """`name` is raydium or meteora; only that venue's pools are quoted."""

    def __init__(self, name: str, chain: Chain) -> None:
        self.name, self._chain = name, chain
        self._label, self._program = LABELS[name], Pubkey.from_string(PROGRAMS[name])
        self._routes: dict[tuple[str, str], str] = {}
        self._keys: dict[str, Pubkey] = {}
        for address, listing in chain.listings.items():
            if listing.venue == name:
                first, second = mints(chain.pools[address])
                self._routes[first, second] = self._routes[second, first] = address
                self._keys[address] = Pubkey.from_string(address)

    def quote(self, request: Any) -> dict[str, Any]:
        """`{inputMint, outputMint, amount, slippageBps?}` to a quote.

        Raises:
            Refused: with Jupiter's codes where it has one.
        """
        mint_in, mint_out = _mint(request, "inputMint"), _mint(request, "outputMint")
        amount = _number(request, "amount", 1, U64_MAX)
        slippage_bps = _number(request, "slippageBps", 0, BPS, DEFAULT_SLIPPAGE_BPS)
        address = self._route(mint_in, mint_out)
        try:
            quoted = quote_exact_in(self._chain.pools[address], mint_in, amount, self._chain.now_s)
        except AmountTooSmall:
            raise Refused("AMOUNT_TOO_SMALL", "The amount is too small: nothing would come out.") from None
        except InsufficientLiquidity:
            raise Refused("INSUFFICIENT_LIQUIDITY", "The pool does not hold enough for this amount.") from None
        return {
            "inputMint": mint_in,
            "inAmount": str(amount),
            "outputMint": mint_out,
            "outAmount": str(quoted.amount_out),
            "otherAmountThreshold": str(quoted.amount_out * (BPS - slippage_bps) // BPS),
            "slippageBps": slippage_bps,
            "priceImpactPct": f"{quoted.price_impact_ppm // 1_000_000}.{quoted.price_impact_ppm % 1_000_000:06d}",
            "swapMode": "ExactIn",
            "routePlan": [
                {
                    "swapInfo": {
                        "ammKey": address,
                        "label": self._label,
                        "inputMint": mint_in,
                        "outputMint": mint_out,
                        "inAmount": str(amount),
                        "outAmount": str(quoted.amount_out),
                        "feeAmount": str(quoted.fee),
                        "feeMint": quoted.fee_mint,
                    },
                    "percent": 100,
                }
            ],
            "contextSlot": self._chain.tip.slot,
            "networkFeeLamports": FEE_PER_SIGNATURE,
        }

    def swap(self, request: Any) -> dict[str, Any]:
        """`{quoteResponse, userPublicKey, reference?}` to an unsigned transaction.

        Raises:
            Refused: INVALID_REQUEST, TOKEN_NOT_TRADABLE, or COULD_NOT_FIND_ANY_ROUTE.
        """
        quote = request.get("quoteResponse") if isinstance(request, dict) else None
        mint_in, mint_out = _mint(quote, "inputMint"), _mint(quote, "outputMint")
        address = self._route(mint_in, mint_out)
        if _pool_of(quote) != address:
            raise Refused("INVALID_REQUEST", f"The quote is not one of {self._label}.")
        reference = request.get("reference", "")
        if not isinstance(reference, str) or len(reference.encode(errors="replace")) > REFERENCE_BYTES_MAX:
            raise Refused("INVALID_REQUEST", f"reference must be text of at most {REFERENCE_BYTES_MAX} bytes.")
        swap = Swap(
            pool=address,
            first_in=mints(self._chain.pools[address])[0] == mint_in,
            amount_in=_number(quote, "inAmount", 1, U64_MAX),
            minimum_out=_number(quote, "otherAmountThreshold", 0, U64_MAX),
            # Two attempts at one order may be equal in all else, and equal transactions are one transaction.
            nonce=secrets.randbits(64),
            reference=reference,
        )
        tip = self._chain.tip
        blockhash = Hash.from_string(tip.blockhash)
        return {
            "swapTransaction": unsigned_swap(self._program, self._keys[address], _wallet(request), blockhash, swap),
            "lastValidBlockHeight": tip.height + BLOCKHASH_HEIGHTS,
        }

    def _route(self, mint_in: str, mint_out: str) -> str:
        address = self._routes.get((mint_in, mint_out))
        if address is not None:
            return address
        if mint_in == mint_out:
            raise Refused("CIRCULAR_ARBITRAGE_IS_DISABLED", "inputMint and outputMint are the same.")
        raise Refused("COULD_NOT_FIND_ANY_ROUTE", f"{self._label} has no pool for this pair.", 404)


def _pool_of(quote: Any) -> Any:
    try:
        return quote["routePlan"][0]["swapInfo"]["ammKey"]
    except (LookupError, TypeError):
        raise Refused("INVALID_REQUEST", "quoteResponse has no routePlan.") from None


def _mint(request: Any, name: str) -> str:
    value = request.get(name) if isinstance(request, dict) else None
    if not isinstance(value, str):
        raise Refused("INVALID_REQUEST", f"{name} is missing or not a string.")
    token = find_token(value)
    # Symbols are for people; on the wire a token is its mint.
    if token is None or token.mint != value:
        raise Refused("TOKEN_NOT_TRADABLE", f"{name} is not a token traded here.")
    return value


def _number(request: Any, name: str, least: int, most: int, default: int | None = None) -> int:
    value = request.get(name, default)
    if isinstance(value, str) and len(value) <= NUMBER_CHARS_MAX and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise Refused("INVALID_REQUEST", f"{name} must be a whole number from {least} to {most}.")
    return value


def _wallet(request: Any) -> Pubkey:
    try:
        return Pubkey.from_string(request.get("userPublicKey"))
    except (ValueError, TypeError):
        raise Refused("INVALID_REQUEST", "userPublicKey must be an address in base58.") from None
