"""What an order may ask for beyond a plain swap at the market, read and turned into base units."""

import re
from decimal import ROUND_CEILING, Decimal, localcontext
from typing import Protocol

from libs.events.model import U64_MAX, Terms, TimeInForce
from libs.venues.tokens import AmountError, Token, plain_number, to_base_units
from services.gateway import limits
from services.gateway.bodies import FieldError

_PRICE_WHOLE_MAX, PRICE_PLACES_MAX = 20, 18
_UNSTORABLE = re.compile("[\\x00\ud800-\udfff]")  # in JSON's escapes only: no encoding and no database takes them
_NOTHING_GIVEN = (None,) * 5
_CLIENT_ID = re.compile(r"[A-Za-z0-9._:@+=-]{1,64}")


class Asked(Protocol):
    """The part of a body that is about terms."""

    @property
    def client_order_id(self) -> str | None: ...

    @property
    def limit_price(self) -> object: ...

    @property
    def min_amount_out(self) -> object: ...

    @property
    def time_in_force(self) -> TimeInForce | None: ...

    @property
    def expires_at(self) -> str | None: ...

    @property
    def metadata(self) -> dict[str, str] | None: ...


def read_terms(
    asked: Asked, token_in: Token | None, token_out: Token | None, amount_in: int, errors: list[FieldError]
) -> Terms | None:
    """The terms, None when there are none. What is wrong goes to `errors`."""
    given = (asked.client_order_id, asked.limit_price, asked.min_amount_out, asked.time_in_force, asked.metadata)
    if given == _NOTHING_GIVEN:
        return None
    if asked.client_order_id is not None and not _CLIENT_ID.fullmatch(asked.client_order_id):
        detail = "1 to 64 letters, digits or any of . _ : @ + = -"
        errors.append(FieldError("#/clientOrderId", "client_order_id_invalid", detail))
    _check_metadata(asked.metadata, errors)
    _check_time_in_force(asked, errors)
    floor = _least(asked.min_amount_out, token_out, errors)
    price = _price(asked.limit_price, errors)
    if price is not None and token_in and token_out and not errors:
        floor = max(floor or 0, _worth(price, amount_in, token_in, token_out))
        if floor > U64_MAX:
            errors.append(FieldError("#/limitPrice", "price_out_of_range", "No pool could give that much."))
    if errors:
        return None
    return Terms(
        client_order_id=asked.client_order_id,
        limit_price=None if price is None else _written_out(price),
        min_out=floor,
        time_in_force=asked.time_in_force or (None if price is None else "GTC" if asked.expires_at is None else "GTT"),
        metadata=asked.metadata,
    )


def _check_metadata(metadata: dict[str, str] | None, errors: list[FieldError]) -> None:
    if metadata is None:
        return
    keys, chars = limits.METADATA_KEYS_MAX, limits.METADATA_CHARS_MAX
    fits = len(metadata) <= keys and all(
        0 < len(key) <= chars and len(value) <= chars for key, value in metadata.items()
    )
    if not fits:
        detail = f"At most {keys} keys; keys and values are texts of at most {chars} characters."
        errors.append(FieldError("#/metadata", "metadata_too_large", detail))
    if any(_UNSTORABLE.search(text) for pair in metadata.items() for text in pair):
        detail = "Keys and values are texts without NUL and without halves of a character."
        errors.append(FieldError("#/metadata", "metadata_invalid", detail))


def _check_time_in_force(asked: Asked, errors: list[FieldError]) -> None:
    match asked.time_in_force:
        case "GTC" | "GTT" if asked.limit_price is None:
            detail = "Only an order with a limitPrice waits; without one, use IOC or FOK, or leave it out."
            errors.append(FieldError("#/timeInForce", "time_in_force_needs_price", detail))
        case "GTC" if asked.expires_at is not None:
            errors.append(FieldError("#/expiresAt", "time_in_force_has_no_end", "GTC has no end; with one it is GTT."))
        case "GTT" if asked.expires_at is None:
            errors.append(FieldError("#/expiresAt", "time_in_force_needs_end", "GTT needs expiresAt."))


def _least(value: object, token: Token | None, errors: list[FieldError]) -> int | None:
    if value is None or token is None:
        return None
    try:
        return to_base_units(value, token)  # type: ignore[arg-type]  # any other type is refused there
    except AmountError as error:
        errors.append(FieldError("#/minAmountOut", "amount_invalid", str(error)))
        return None


def _price(value: object, errors: list[FieldError]) -> Decimal | None:
    if value is None:
        return None
    try:
        price = plain_number(value)
    except AmountError:
        price = Decimal(0)
    exponent = price.as_tuple().exponent
    assert isinstance(exponent, int)
    # By its exponent alone: written out, 1e-999999999 would fill the memory.
    if price > 0 and price.adjusted() < _PRICE_WHOLE_MAX and exponent >= -PRICE_PLACES_MAX:
        return price
    detail = "A positive decimal with at most 18 digits behind the point: tokenOut per tokenIn."
    errors.append(FieldError("#/limitPrice", "price_invalid", detail))
    return None


def _written_out(price: Decimal) -> str:
    text = f"{price:f}"  # all digits: normalize() would round to those of the context
    return text.rstrip("0").rstrip(".") if "." in text else text


def _worth(price: Decimal, amount_in: int, token_in: Token, token_out: Token) -> int:
    """What `amount_in` is worth at this price, in base units of the token bought, rounded up: never below the price."""
    with localcontext(prec=80):
        units = price * amount_in * Decimal(10) ** (token_out.decimals - token_in.decimals)
        return int(units.to_integral_value(ROUND_CEILING))
