"""What clients send about themselves."""

import re
from datetime import datetime

from pydantic import Field

from services.gateway import limits
from services.gateway.bodies import Body, FieldError, Invalid, parse, validate
from services.gateway.times import read_time

_EMAIL = re.compile(
    r"(?!\.)(?!.*\.[.@])[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@"
    r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])"
)
_NAME = re.compile(r"[^\x00-\x1f\x7f]*")


class SignupBody(Body):
    """POST /api/auth/signup."""

    email: str = Field(max_length=limits.EMAIL_CHARS_MAX)
    password: str = Field(min_length=limits.PASSWORD_CHARS_MIN, max_length=limits.PASSWORD_CHARS_MAX, repr=False)
    name: str | None = Field(None, max_length=limits.NAME_CHARS_MAX)


class LoginBody(Body):
    """POST /api/auth/login. No rules: what cannot be right is as wrong as any other wrong password."""

    email: str
    password: str = Field(repr=False)


class PasswordBody(LoginBody):
    """POST /api/auth/password."""

    new_password: str = Field(min_length=limits.PASSWORD_CHARS_MIN, max_length=limits.PASSWORD_CHARS_MAX, repr=False)


class RefreshBody(Body):
    """POST /api/auth/refresh and /api/auth/logout."""

    refresh_token: str = Field(max_length=limits.CREDENTIAL_CHARS_MAX, repr=False)


class KeyBody(Body):
    """POST /api/keys."""

    name: str = Field(min_length=1, max_length=limits.NAME_CHARS_MAX)
    scopes: list[str] = Field(min_length=1, max_length=len(limits.SCOPES))
    expires_at: str | None = None


def read_signup(body: bytes) -> SignupBody:
    """The body with its email in normal form.

    Raises:
        Malformed, Invalid
    """
    signup = validate(SignupBody, parse(body))
    email = normal_email(signup.email)
    if email is None:
        raise Invalid(FieldError("#/email", "email_invalid", "This is not an email address."))
    if signup.name is not None and not _NAME.fullmatch(signup.name):
        raise Invalid(FieldError("#/name", "name_invalid", "The name holds control characters."))
    return signup.model_copy(update={"email": email})


def read_login(body: bytes) -> LoginBody:
    """Raises Malformed, Invalid."""
    return validate(LoginBody, parse(body))


def read_password(body: bytes) -> PasswordBody:
    """Raises Malformed, Invalid."""
    return validate(PasswordBody, parse(body))


def normal_email(text: str) -> str | None:
    """Without blanks around it and in lower case, or None when it is no address."""
    email = text.strip().lower()
    return email if len(email) <= limits.EMAIL_CHARS_MAX and _EMAIL.fullmatch(email) else None


def read_refresh(body: bytes) -> str:
    """Raises Malformed, Invalid."""
    return validate(RefreshBody, parse(body)).refresh_token


def read_key(body: bytes, now: datetime) -> tuple[str, tuple[str, ...], datetime | None]:
    """Name, scopes and end of the key asked for.

    Raises:
        Malformed, Invalid
    """
    asked = validate(KeyBody, parse(body))
    errors: list[FieldError] = []
    if not _NAME.fullmatch(asked.name):
        errors.append(FieldError("#/name", "name_invalid", "The name holds control characters."))
    for place, scope in enumerate(asked.scopes):
        if scope not in limits.SCOPES:
            errors.append(FieldError(f"#/scopes/{place}", "unknown_scope", f"Known are {' and '.join(limits.SCOPES)}."))
    expires_at = read_time(asked.expires_at, now, None, errors)
    if errors:
        raise Invalid(*errors)
    return asked.name, tuple(sorted({*asked.scopes})), expires_at
