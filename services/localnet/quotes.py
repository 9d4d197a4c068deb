"""One venue's quote and swap API, shaped after Jupiter's: plain values in, plain values out, no HTTP."""

import secrets
from collections.abc import Sequence
from typing import Any

from solders.hash import Hash
from solders.pubkey import Pubkey

from libs.venues.book import PPM, Quote, mints, quote_exact_in
from libs.venues.errors import AmountTooSmall, InsufficientLiquidity
from libs.venues.tokens import U64_MAX, find_token
from services.localnet.chain import BLOCKHASH_HEIGHTS, FEE_PER_SIGNATURE, Chain
from services.localnet.paths import Path, find_paths
from services.localnet.pools import LABELS, PROGRAMS
from services.localnet.wire import REFERENCE_BYTES_MAX, Hop, Swap, unsigned_swap

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
    """`name` is raydium, meteora or orca; only that venue's pools are quoted."""

    def __init__(self, name: str, chain: Chain) -> None:
        self.name, self._chain = name, chain
        self._label, self._program = LABELS[name], Pubkey.from_string(PROGRAMS[name])
        mine = {address: pool for address, pool in chain.pools.items() if chain.listings[address].venue == name}
        self._paths = find_paths(mine)
        self._keys = {address: Pubkey.from_string(address) for address in mine}

    def quote(self, request: Any) -> dict[str, Any]:
        """`{inputMint, outputMint, amount, slippageBps?}` to a quote.

        Raises:
            Refused: with Jupiter's codes where it has one.
        """
        mint_in, mint_out = _mint(request, "inputMint"), _mint(request, "outputMint")
        amount = _number(request, "amount", 1, U64_MAX)
        slippage_bps = _number(request, "slippageBps", 0, BPS, DEFAULT_SLIPPAGE_BPS)
        path, trades = self._best(mint_in, mint_out, amount)
        amount_out = trades[-1].amount_out
        impact = price_impact_ppm(trades)
        return {
            "inputMint": mint_in,
            "inAmount": str(amount),
            "outputMint": mint_out,
            "outAmount": str(amount_out),
            "otherAmountThreshold": str(amount_out * (BPS - slippage_bps) // BPS),
            "slippageBps": slippage_bps,
            "priceImpactPct": f"{impact // PPM}.{impact % PPM:06d}",
            "swapMode": "ExactIn",
            "routePlan": [self._step(hop, trade) for hop, trade in zip(path, trades, strict=True)],
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
        path = self._path_of(quote, mint_in, mint_out)
        reference = request.get("reference", "")
        if not isinstance(reference, str) or len(reference.encode(errors="replace")) > REFERENCE_BYTES_MAX:
            raise Refused("INVALID_REQUEST", f"reference must be text of at most {REFERENCE_BYTES_MAX} bytes.")
        swap = Swap(
            hops=path,
            amount_in=_number(quote, "inAmount", 1, U64_MAX),
            minimum_out=_number(quote, "otherAmountThreshold", 0, U64_MAX),
            # Two attempts at one order may be equal in all else, and equal transactions are one transaction.
            nonce=secrets.randbits(64),
            reference=reference,
        )
        tip = self._chain.tip
        blockhash = Hash.from_string(tip.blockhash)
        pools = [self._keys[hop.pool] for hop in path]
        return {
            "swapTransaction": unsigned_swap(self._program, pools, _wallet(request), blockhash, swap),
            "lastValidBlockHeight": tip.height + BLOCKHASH_HEIGHTS,
        }

    def _best(self, mint_in: str, mint_out: str, amount: int) -> tuple[Path, list[Quote]]:
        """The way on which most comes out, with the trade on each pool of it."""
        best: tuple[Path, list[Quote]] | None = None
        refusal: Refused | None = None
        for path in self._ways(mint_in, mint_out):
            try:
                trades = self._trades(path, amount)
            except AmountTooSmall:
                refusal = Refused("AMOUNT_TOO_SMALL", "The amount is too small: nothing would come out.")
                continue
            except InsufficientLiquidity:
                refusal = Refused("INSUFFICIENT_LIQUIDITY", "The pool does not hold enough for this amount.")
                continue
            if best is None or trades[-1].amount_out > best[1][-1].amount_out:
                best = path, trades
        if best is None:
            assert refusal is not None, "there is a way, or it was refused before"
            raise refusal
        return best

    def _trades(self, path: Path, amount: int) -> list[Quote]:
        trades: list[Quote] = []
        for hop in path:
            pool = self._chain.pools[hop.pool]
            trades.append(quote_exact_in(pool, mints(pool)[not hop.first_in], amount, self._chain.now_s))
            amount = trades[-1].amount_out
        return trades

    def _step(self, hop: Hop, trade: Quote) -> dict[str, Any]:
        first, second = mints(self._chain.pools[hop.pool])
        return {
            "swapInfo": {
                "ammKey": hop.pool,
                "label": self._label,
                "inputMint": first if hop.first_in else second,
                "outputMint": second if hop.first_in else first,
                "inAmount": str(trade.amount_in),
                "outAmount": str(trade.amount_out),
                "feeAmount": str(trade.fee),
                "feeMint": trade.fee_mint,
            },
            "percent": 100,
        }

    def _ways(self, mint_in: str, mint_out: str) -> list[Path]:
        if mint_in == mint_out:
            raise Refused("CIRCULAR_ARBITRAGE_IS_DISABLED", "inputMint and outputMint are the same.")
        ways = self._paths.get((mint_in, mint_out))
        if ways is None:
            raise Refused("COULD_NOT_FIND_ANY_ROUTE", f"{self._label} has no pools that lead there.", 404)
        return ways

    def _path_of(self, quote: Any, mint_in: str, mint_out: str) -> Path:
        try:
            pools = [step["swapInfo"]["ammKey"] for step in quote["routePlan"]]
        except (LookupError, TypeError):
            raise Refused("INVALID_REQUEST", "quoteResponse has no routePlan.") from None
        for path in self._ways(mint_in, mint_out):
            if [hop.pool for hop in path] == pools:
                return path
        raise Refused("INVALID_REQUEST", f"The quote is not one of {self._label}.")


def price_impact_ppm(trades: Sequence[Quote]) -> int:
    """How much worse than the pools' prices before, one after another."""
    kept = PPM
    for trade in trades:
        kept = kept * (PPM - trade.price_impact_ppm) // PPM
    return PPM - kept


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
