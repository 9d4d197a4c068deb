"""Bodies of requests: JSON read exactly, checked against a model, and every fault told by its place."""

import json
from codecs import BOM_UTF8
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from services.gateway import limits


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


class Body(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, alias_generator=to_camel)


def _integer(text: str) -> int:
    # Python refuses beyond 4300 digits, and slows down long before.
    if len(text) > limits.NUMBER_CHARS_MAX:
        raise Malformed("A number in the body is too long.")
    return int(text)


def _decimal(text: str) -> Decimal:
    if len(text) > limits.NUMBER_CHARS_MAX:
        raise Malformed("A number in the body is too long.")
    try:
        return Decimal(text)
    except InvalidOperation:  # JSON bounds no exponent; a Decimal's has eighteen digits
        raise Malformed("A number in the body has an exponent that is too large.") from None


def _constant(text: str) -> NoReturn:
    raise Malformed(f"{text} is not JSON.")


_EXACT = json.JSONDecoder(parse_float=_decimal, parse_int=_integer, parse_constant=_constant)


def parse(body: bytes) -> dict[str, Any]:
    """The object a body holds; numbers are int or Decimal, with every digit that was sent.

    Raises:
        Malformed, Invalid
    """
    try:
        value = orjson.loads(body)
        if _has_float(value):
            value = _exactly(body)
    except (orjson.JSONDecodeError, RecursionError):
        # Slower, and it says what is wrong; or it reads more: halves of characters in escapes.
        value = _exactly(body)
    if not isinstance(value, dict):
        raise Invalid(FieldError("#", "object_expected", "The body must be a JSON object."))
    return value


def _has_float(value: object) -> bool:
    """orjson makes floats of decimals and of long integers, and a float cannot hold most of them."""
    if isinstance(value, dict):
        return any(map(_has_float, value.values()))
    return any(map(_has_float, value)) if isinstance(value, list) else isinstance(value, float)


def _exactly(body: bytes) -> Any:
    try:
        return _EXACT.decode(body.decode())
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        if not body.strip():
            raise Malformed("The body is empty: send a JSON object.") from None
        if body.startswith(BOM_UTF8):  # of some editors and shells, and nobody sees it
            raise Malformed("The body begins with a byte order mark: send UTF-8 without one.") from None
        raise Malformed(f"The body is not JSON: {error.msg}, line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise Malformed("The body is nested too deeply.") from None


B = TypeVar("B", bound=Body)


def validate(model: type[B], value: dict[str, Any]) -> B:
    _check_size(value)
    for name, part in value.items():
        _check_size(part, name)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise Invalid(*(_told(fault["loc"], fault["type"], fault["msg"]) for fault in faults)) from None


def _check_size(part: object, *path: str) -> None:
    if isinstance(part, dict) and len(part) > limits.MEMBERS_MAX:
        raise Invalid(
            FieldError(_pointer(path), "too_long", f"An object has at most {limits.MEMBERS_MAX} members here.")
        )


def _told(path: tuple[int | str, ...], code: str, said: str) -> FieldError:
    # Many clients show their users the text alone, so it names the part as the pointer does.
    part = quoted("/".join(map(str, path)))
    match code:
        case "missing":
            detail = f"{part} is missing."
        case "extra_forbidden":
            detail = f"There is no member {part} here."
        case "dict_type":
            detail = f"{part} must be a JSON object."
        case _:
            detail = f"{part}: {said}"
    return FieldError(_pointer(path), code, detail)


def _pointer(path: tuple[int | str, ...]) -> str:
    return "#" + "".join("/" + quoted(str(part)).replace("~", "~0").replace("/", "~1") for part in path)


def quoted(text: str) -> str:
    return whole(text[: limits.ECHO_CHARS_MAX])


def whole(text: str) -> str:
    # A lone surrogate is valid in JSON's escapes and in no encoding.
    return text.encode(errors="replace").decode()
