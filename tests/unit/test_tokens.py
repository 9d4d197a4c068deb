"""Access tokens: what is accepted, and everything that is not."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self

import jwt
import pytest

from libs.service import tokens
from libs.service.settings import ConfigurationError
from libs.service.tokens import InvalidToken, issue_token, verify_token

SECRET = "a secret that is long enough for every HMAC this project might be asked to refuse"
OTHER = "another secret, and as long, so that only its content makes the difference here"


def _signed(secret: str = SECRET, algorithm: str = "HS256", **changes: object) -> str:
    now = datetime.now(UTC)
    claims = {
        "iss": "swaplog",
        "aud": "swaplog-api",
        "sub": "u1",
        "iat": now,
        "exp": now + timedelta(hours=1),
        **changes,
    }
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, secret, algorithm=algorithm)


def test_a_token_says_whose_it_is_and_until_when() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    claims = verify_token(issue_token("u1", SECRET, now=now, lifetime=timedelta(minutes=5)), SECRET)
    assert claims.user_id == "u1"
    assert claims.expires_at == now + timedelta(minutes=5)


def test_a_token_of_a_machine_whose_clock_is_ahead_is_good_at_once() -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=2)
    assert verify_token(issue_token("u1", SECRET, now=ahead), SECRET).user_id == "u1"


def test_a_token_verified_before_is_still_refused_under_another_secret() -> None:
    token = issue_token("u1", SECRET)
    verify_token(token, SECRET)
    verify_token(token, SECRET)
    with pytest.raises(InvalidToken):
        verify_token(token, OTHER)


def test_a_token_verified_before_is_refused_once_it_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    token = issue_token("u1", SECRET, lifetime=timedelta(hours=1))
    verify_token(token, SECRET)

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(hours=2)

    monkeypatch.setattr(tokens, "datetime", Later)
    with pytest.raises(InvalidToken, match="expired"):
        verify_token(token, SECRET)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "not.a.token",
        "x" * 3_000,
        "🙂",
        "\udcff",
        _signed(OTHER),
        _signed(algorithm="HS512"),
        _signed(iss="somebody"),
        _signed(aud="something"),
        _signed(sub=None),
        _signed(sub=""),
        _signed(exp=None),
        _signed(iat=None),
        _signed(exp=10**30),
        _signed(exp=datetime.now(UTC) - timedelta(seconds=5)),
        jwt.encode({"sub": "u1"}, None, algorithm="none"),
    ],
)
def test_anything_else_is_refused(token: str) -> None:
    for older in ((), ("a secret that signs no more, and did so for nobody here",)):
        with pytest.raises(InvalidToken):
            verify_token(token, SECRET, *older)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "VERIFIED_MAX", 3)
    monkeypatch.setattr(tokens, "_verified", {})
    for n in range(10):
        verify_token(issue_token(f"u{n}", SECRET), SECRET)
    assert len(tokens._verified) == 3


def test_a_short_secret_is_a_clear_refusal() -> None:
    with pytest.raises(ConfigurationError, match="JWT_SECRET is too short: 5 bytes"):
        issue_token("u1", "short")
    with pytest.raises(ConfigurationError, match="too short"):
        verify_token("a.b.c", "short")
