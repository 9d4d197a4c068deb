"""What clients send: bodies read exactly, checked, and turned into our own terms."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from libs.venues.tokens import TOKENS, AmountError, Token, find_token, nearest_symbols, to_base_units
from services.gateway import limits

_EMAIL = re.compile(
    r"(?!\.)(?!.*\.[.@])[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@"
    r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])"
)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_KEY = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_NAME = re.compile(r"[^\x00-\x1f\x7f]*")


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one part of a body. `pointer`: RFC 6901 as a URI fragment, e.g. "#/amount"."""

    pointer: str
    code: str
    detail: str


class Malformed(Exception):
    """The body is not JSON; the text is one sentence for the client."""


class Invalid(Exception):
    """The body is JSON, but not what is asked for."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__(errors[0].detail)
        self.errors = errors


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, alias_generator=to_camel)


class SignupBody(_Body):
    """POST /api/auth/signup."""

    email: str = Field(max_length=limits.EMAIL_CHARS_MAX)
    password: str = Field(min_length=limits.PASSWORD_CHARS_MIN, max_length=limits.PASSWORD_CHARS_MAX, repr=False)
    name: str | None = Field(None, max_length=limits.NAME_CHARS_MAX)


class LoginBody(_Body):
    """POST /api/auth/login. No rules: what cannot be right is as wrong as any other wrong password."""

    email: str
    password: str = Field(repr=False)


class OrderBody(_Body):
    """POST /api/orders. Unknown fields are refused: a misspelt slippageBps would cost money."""

    model_config = ConfigDict(extra="forbid")

    token_in: str = Field(max_length=limits.TOKEN_CHARS_MAX)
    token_out: str = Field(max_length=limits.TOKEN_CHARS_MAX)
    amount: Any
    slippage_bps: int | None = Field(None, ge=0, le=10_000)
    expires_at: str | None = None


class BatchItemBody(OrderBody):
    """One order of POST /api/orders/batch; its key may stand beside it."""

    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """An order as asked for, in our own terms. `amount_in`: base units. None: the client left the choice to us."""

    token_in: Token
    token_out: Token
    amount_in: int
    slippage_bps: int | None
    expires_at: datetime | None

    def fingerprint(self) -> str:
        """The same for two bodies that ask for the same, however they are written."""
        parts = (self.token_in.mint, self.token_out.mint, self.amount_in, self.slippage_bps, self.expires_at)
        return sha256(repr(parts).encode()).hexdigest()


def read_signup(body: bytes) -> SignupBody:
    """The body with its email in normal form.

    Raises:
        Malformed, Invalid
    """
    signup = _validate(SignupBody, _parse(body))
    email = normal_email(signup.email)
    if email is None:
        raise Invalid(FieldError("#/email", "email_invalid", "This is not an email address."))
    if signup.name is not None and not _NAME.fullmatch(signup.name):
        raise Invalid(FieldError("#/name", "name_invalid", "The name holds control characters."))
    return signup.model_copy(update={"email": email})


def read_login(body: bytes) -> LoginBody:
    """Raises Malformed, Invalid."""
    return _validate(LoginBody, _parse(body))


def normal_email(text: str) -> str | None:
    """Without blanks around it and in lower case, or None when it is no address."""
    email = text.strip().lower()
    return email if len(email) <= limits.EMAIL_CHARS_MAX and _EMAIL.fullmatch(email) else None


def read_order(body: bytes, now: datetime) -> OrderRequest:
    """Everything about the order that can be checked without asking anybody; all faults are told at once.

    Raises:
        Malformed, Invalid
    """
    return _order(_validate(OrderBody, _parse(body)), now)


def read_orders(body: bytes, now: datetime, key: str | None) -> list[tuple[OrderRequest, str | None] | Invalid]:
    """The orders of a batch, each with its key; what is wrong with one is its own outcome.

    `key`: of the whole request; it stands for `key/0`, `key/1` … where an order has none of its own.

    Raises:
        Malformed, Invalid: the batch itself cannot be read.
    """
    batch = _parse(body)
    orders = batch.get("orders")
    if batch.keys() != {"orders"} or not isinstance(orders, list):
        raise Invalid(FieldError("#/orders", "list_expected", 'Send {"orders": [...]} and nothing beside it.'))
    if not 1 <= len(orders) <= limits.ORDERS_PER_BATCH_MAX:
        raise Invalid(FieldError("#/orders", "list_length", f"Send 1 to {limits.ORDERS_PER_BATCH_MAX} orders at once."))
    return [_batch_item(item, now, f"{key}/{place}" if key else None) for place, item in enumerate(orders)]


def is_key(text: str) -> bool:
    """Whether it may serve as an idempotency key."""
    return len(text) <= limits.IDEMPOTENCY_KEY_CHARS_MAX and _KEY.fullmatch(text) is not None


def _batch_item(item: object, now: datetime, key: str | None) -> tuple[OrderRequest, str | None] | Invalid:
    try:
        if not isinstance(item, dict):
            raise Invalid(FieldError("#", "object_expected", "An order is a JSON object."))
        order = _validate(BatchItemBody, item)
        key = order.idempotency_key or key
        if key is not None and not is_key(key):
            raise Invalid(
                FieldError("#/idempotencyKey", "key_invalid", "A key is printable ASCII, up to 255 characters.")
            )
        return _order(order, now), key
    except Invalid as fault:
        return fault


def _order(order: OrderBody, now: datetime) -> OrderRequest:
    errors: list[FieldError] = []
    token_in = _token(order.token_in, "#/tokenIn", errors)
    token_out = _token(order.token_out, "#/tokenOut", errors)
    if token_in and token_in == token_out:
        errors.append(FieldError("#/tokenOut", "same_token", "tokenIn and tokenOut are the same token."))
    amount_in = _amount(order.amount, token_in, errors)
    expires_at = _expiry(order.expires_at, now, errors)
    if errors or token_in is None or token_out is None:
        raise Invalid(*errors)
    return OrderRequest(token_in, token_out, amount_in, order.slippage_bps, expires_at)


def _token(text: str, pointer: str, errors: list[FieldError]) -> Token | None:
    token = find_token(text)
    if token is None:
        nearest = nearest_symbols(text)
        hint = f"Did you mean {' or '.join(nearest)}?" if nearest else f"Known are {', '.join(TOKENS)}."
        errors.append(FieldError(pointer, "unknown_token", f'There is no token "{_quoted(text)}". {hint}'))
    return token


def _amount(value: object, token: Token | None, errors: list[FieldError]) -> int:
    if token is None:
        return 0
    try:
        return to_base_units(value, token)  # type: ignore[arg-type]  # any other type is refused there
    except AmountError as error:
        errors.append(FieldError("#/amount", "amount_invalid", str(error)))
        return 0


def _expiry(text: str | None, now: datetime, errors: list[FieldError]) -> datetime | None:
    if text is None:
        return None
    try:
        if not _RFC3339.fullmatch(text):
            raise ValueError(text)
        expires_at = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        detail = "The time must be RFC 3339 with an offset, e.g. 2030-01-31T12:00:00Z."
        errors.append(FieldError("#/expiresAt", "time_invalid", detail))
        return None
    if not now < expires_at <= now + limits.EXPIRES_IN_MAX:
        hours = limits.EXPIRES_IN_MAX.total_seconds() / 3600
        detail = f"The time must lie in the future, by at most {hours:g} hours."
        errors.append(FieldError("#/expiresAt", "time_out_of_range", detail))
    return expires_at


def _integer(text: str) -> int:
    # Python refuses beyond 4300 digits, and slows down long before.
    if len(text) > limits.NUMBER_CHARS_MAX:
        raise Malformed("A number in the body is too long.")
    return int(text)


def _decimal(text: str) -> Decimal:
    if len(text) > limits.NUMBER_CHARS_MAX:
        raise Malformed("A number in the body is too long.")
    return Decimal(text)


def _constant(text: str) -> NoReturn:
    raise Malformed(f"{text} is not JSON.")


# orjson reads numbers as floats, which cannot hold most decimal amounts.
_DECODER = json.JSONDecoder(parse_float=_decimal, parse_int=_integer, parse_constant=_constant)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = _DECODER.decode(body.decode())
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise Malformed(f"The body is not JSON: {error.msg}, line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise Malformed("The body is nested too deeply.") from None
    if not isinstance(value, dict):
        raise Invalid(FieldError("#", "object_expected", "The body must be a JSON object."))
    return value


B = TypeVar("B", bound=_Body)


def _validate(model: type[B], value: dict[str, Any]) -> B:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise Invalid(*(FieldError(_pointer(fault["loc"]), fault["type"], fault["msg"]) for fault in faults)) from None


def _pointer(path: tuple[int | str, ...]) -> str:
    return "#" + "".join("/" + _quoted(str(part)).replace("~", "~0").replace("/", "~1") for part in path)


def _quoted(text: str) -> str:
    # A lone surrogate is valid in JSON's escapes and in no encoding.
    return text[: limits.ECHO_CHARS_MAX].encode(errors="replace").decode()
