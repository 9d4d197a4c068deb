"""Tokens are the true ones; amounts convert exactly or not at all."""

from decimal import Decimal

import pytest
from solders.pubkey import Pubkey

from libs.venues.tokens import (
    TOKENS,
    U64_MAX,
    AmountError,
    find_token,
    nearest_symbols,
    to_base_units,
    to_decimal_text,
)

SOL, USDC, BONK = TOKENS["SOL"], TOKENS["USDC"], TOKENS["BONK"]


def test_every_mint_is_a_32_byte_address() -> None:
    for token in TOKENS.values():
        assert str(Pubkey.from_string(token.mint)) == token.mint


def test_tokens_are_found_by_symbol_in_any_case_and_by_exact_mint() -> None:
    assert find_token("sol") is SOL
    assert find_token(USDC.mint) is USDC
    assert find_token(USDC.mint.lower()) is None
    assert find_token("DOGE") is None
    assert nearest_symbols("usd") == ["USDT", "USDC"]
    assert nearest_symbols("?" * 10_000) == []


@pytest.mark.parametrize(
    ("value", "token", "units"),
    [
        (10, SOL, 10_000_000_000),
        ("0.000000001", SOL, 1),
        ("1.50000000000000", USDC, 1_500_000),
        (Decimal("1E+2"), USDC, 100_000_000),
        ("1e-5", BONK, 1),
        ("18446744073709.551615", USDC, U64_MAX),
    ],
)
def test_amounts_convert_exactly(value: str | int | Decimal, token: object, units: int) -> None:
    assert to_base_units(value, token) == units  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [
        0, -1, "0", "-0", "-1", "0.0000000001", "nan", "NaN", "inf", "", " 1", "1 ", "1_0", "0x10", "\u0661",
        "1e", "1.", ".5", "1e999", "1e-999", "9" * 65, 2**200, True, 1.5, None, Decimal("NaN"),
        Decimal("Infinity"), Decimal(-1), Decimal("1E+999999"), Decimal("1E-999999"),
        Decimal("1.0000000000001"), "18446744073.709551616",
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused_in_one_sentence(value: object) -> None:
    with pytest.raises(AmountError, match=r"^[A-Z].*\.$"):
        to_base_units(value, SOL)  # type: ignore[arg-type]


def test_text_has_no_exponent_and_no_trailing_zeros() -> None:
    assert to_decimal_text(1, SOL) == "0.000000001"
    assert to_decimal_text(1_500_000, USDC) == "1.5"
    assert to_decimal_text(100_000_000, USDC) == "100"
    assert to_decimal_text(0, USDC) == "0"
    assert to_base_units(to_decimal_text(U64_MAX, SOL), SOL) == U64_MAX
