"""Access tokens: who a request speaks for, and until when. HS256 and nothing else."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import jwt
from jwt.types import Options

from libs.service.settings import ConfigurationError

ALGORITHM = "HS256"
ISSUER = "swaplog"
AUDIENCE = "swaplog-api"
LIFETIME = timedelta(minutes=15)
SECRET_BYTES_MIN = 32  # RFC 7518 §3.2: at least as long as the hash
TOKEN_CHARS_MAX = 2_048
VERIFIED_MAX = 10_000

# Not that it was issued in the past: another gateway's clock may be a moment ahead of this one.
_CHECKS: Options = {"require": ["iss", "aud", "sub", "iat", "exp"], "verify_iat": False}


class InvalidToken(Exception):
    """Not a token of ours, or not any more; the text is one sentence that may be shown to the client."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `expires_at` is in UTC; at that instant the token is no longer valid.

    `session`: which one it was issued for; empty: for none, or by an earlier release.
    """

    user_id: str
    expires_at: datetime
    session: str = ""


# Checking a signature costs more than all else a request needs, and clients send the same token again and again.
# The secret is part of the key: what one secret has signed proves nothing under another.
_verified: dict[tuple[str, str], Claims] = {}


def check_secrets(secret: str, *older: str) -> None:
    """Refuse those that can be guessed; called at start, before the first token. `older`: see `verify_token`.

    Raises:
        ConfigurationError: shorter than 32 bytes.
    """
    check_secret(secret)
    for one in older:
        check_secret(one, "JWT_SECRETS_OLD")


def check_secret(secret: str, variable: str = "JWT_SECRET") -> None:
    """Refuse a secret that can be guessed.

    Raises:
        ConfigurationError: shorter than 32 bytes.
    """
    length = len(secret.encode())
    if length < SECRET_BYTES_MIN:
        raise ConfigurationError(f"{variable} is too short: {length} bytes, at least {SECRET_BYTES_MIN} are needed")


def issue_token(
    user_id: str, secret: str, *, now: datetime | None = None, lifetime: timedelta = LIFETIME, session: str = ""
) -> str:
    """A signed token for `user_id`, valid from `now` (default: the present) for `lifetime`.

    Raises:
        ConfigurationError: the secret is too short.
    """
    check_secret(secret)
    issued_at = now or datetime.now(UTC)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user_id, "iat": issued_at, "exp": issued_at + lifetime}
    if session:
        claims["sid"] = session
    return jwt.encode(claims, secret, algorithm=ALGORITHM, headers={"kid": key_id(secret)})


def key_id(secret: str) -> str:
    """The public name of a secret: says which of several has signed."""
    return sha256(b"kid:" + secret.encode()).hexdigest()[:8]


def verify_token(token: str, secret: str, *older: str) -> Claims:
    """What `token` says, when it is ours and still valid. `older`: secrets that sign no more, but once did.

    Raises:
        InvalidToken: malformed, forged, expired, or made for something else.
        ConfigurationError: the secret is too short.
    """
    secret = _secret_of(token, secret, older) if older else secret
    known = _verified.get((secret, token))
    if known is not None:
        if datetime.now(UTC) < known.expires_at:
            return known
        _verified.pop((secret, token), None)
        raise InvalidToken("The token has expired.")
    claims = _decode(token, secret)
    if len(_verified) >= VERIFIED_MAX:
        del _verified[next(iter(_verified))]
    _verified[secret, token] = claims
    return claims


def _secret_of(token: str, secret: str, older: tuple[str, ...]) -> str:
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.InvalidTokenError, ValueError):
        return secret
    return next((one for one in older if key_id(one) == kid), secret)


def _decode(token: str, secret: str) -> Claims:
    check_secret(secret)
    if len(token) > TOKEN_CHARS_MAX:
        raise InvalidToken("The token is too long.")
    try:
        payload = jwt.decode(token, secret, algorithms=[ALGORITHM], issuer=ISSUER, audience=AUDIENCE, options=_CHECKS)
        expires_at = datetime.fromtimestamp(int(payload["exp"]), UTC)
        claims = Claims(payload["sub"], expires_at, str(payload.get("sid", "")))
    except jwt.ExpiredSignatureError:
        raise InvalidToken("The token has expired.") from None
    except (jwt.InvalidTokenError, ValueError, OverflowError, OSError):
        # One answer for all: which check failed helps nobody but a forger.
        raise InvalidToken("The token is not valid.") from None
    if not claims.user_id:
        raise InvalidToken("The token is not valid.")
    return claims
