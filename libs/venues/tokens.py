"""The tokens orders may name, and the one place where decimals become base units and back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from difflib import get_close_matches
from types import MappingProxyType

U64_MAX = 2**64 - 1
MAX_AMOUNT_CHARS = 64
SUGGESTIONS_MAX = 3

# Moves the point of any number there is, and never rounds.
_EXACTLY = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")


class AmountError(ValueError):
    """The amount cannot be expressed in the token's base units; the text is one sentence for people."""


@dataclass(frozen=True, slots=True)
class Token:
    """`decimals`: one whole token is 10**decimals base units."""

    symbol: str
    mint: str
    decimals: int


_ALL = (
    Token("SOL", "So11111111111111111111111111111111111111112", 9),
    Token("USDC", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", 6),
    Token("USDT", "Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB", 6),
    Token("JUP", "JUPyiwrYJFskUPiHa7hkeR8VUtAeFoSYbKedZNsDvCN", 6),
    Token("BONK", "DezXAZ8z7PnrnRJjz3wXBoRgixCa6xjnB7YaB1pPB263", 5),
    Token("RAY", "4k3Dyjzvzp8eMZWUXbBCjEvwSkkk59S5iCNLY3QrkX6R", 6),
    Token("ETH", "7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs", 8),
    Token("BTC", "3NZ9JMVBmGAqocybic2c7LQCJScmgsAZ6vQqTDzcqmJh", 8),
)

TOKENS: Mapping[str, Token] = MappingProxyType({token.symbol: token for token in _ALL})
_BY_MINT: Mapping[str, Token] = MappingProxyType({token.mint: token for token in _ALL})


def find_token(symbol_or_mint: str) -> Token | None:
    """A token by its symbol (any case) or its mint address (exact), or None."""
    text = symbol_or_mint
    return TOKENS.get(text) or _BY_MINT.get(text) or TOKENS.get(text.upper())


def nearest_symbols(text: str) -> list[str]:
    """Symbols that look like `text`, best first: for "did you mean" in an error; may be empty."""
    return get_close_matches(text[:MAX_AMOUNT_CHARS].upper(), list(TOKENS), n=SUGGESTIONS_MAX, cutoff=0.5)


def to_base_units(value: str | int | Decimal, token: Token) -> int:
    """`value` whole tokens in base units, exactly: 1 <= result <= 2**64 - 1.

    Raises:
        AmountError: not a plain number, not above zero, more decimals than the token has, or beyond 64 bits.
    """
    number = plain_number(value)
    if number <= 0:
        raise AmountError("The amount must be above zero.")
    # Checked on the exponent alone, before any power of ten is computed: 1E+999999999 is twelve characters.
    if number.adjusted() + token.decimals > 20:
        raise AmountError(f"The amount is too large for {token.symbol}.")
    scaled = number.scaleb(token.decimals, _EXACTLY)
    units = int(scaled)
    if units != scaled:
        raise AmountError(f"The amount has too many decimals: {token.symbol} has {token.decimals}.")
    if units > U64_MAX:
        raise AmountError(f"The amount is too large for {token.symbol}.")
    return units


def to_decimal_text(units: int, token: Token) -> str:
    """Base units as whole tokens: no exponent, no trailing zeros, e.g. 1500000 USDC units -> "1.5"."""
    sign = "-" if units < 0 else ""
    whole, fraction = divmod(abs(units), 10**token.decimals)
    if not fraction:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{fraction:0{token.decimals}d}".rstrip("0")


def plain_number(value: object) -> Decimal:
    """A number as clients write it, with every digit.

    Raises:
        AmountError: something else.
    """
    if isinstance(value, Decimal):
        number = value
    elif isinstance(value, str) and len(value) <= MAX_AMOUNT_CHARS and _PLAIN_NUMBER.fullmatch(value):
        number = Decimal(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > U64_MAX:  # str() of a huge integer is slow, and Python refuses it past 4300 digits
            raise AmountError("The amount is too large.")
        number = Decimal(value)
    else:
        raise AmountError('The amount must be a plain number such as 10 or "0.25".')
    if not number.is_finite():
        raise AmountError("The amount must be a finite number.")
    return number
