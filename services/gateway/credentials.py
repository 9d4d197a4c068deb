"""What stands for a user besides a password: sessions that renew access tokens, and API keys. Only hashes are kept."""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from uuid_utils import uuid7

from services.gateway import limits
from services.gateway.accounts import Account, Accounts

SESSION_PREFIX, KEY_PREFIX = "swr_", "swk_"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its owner sees it, without the secret."""

    key_id: str
    user_id: str
    name: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    created_at: datetime


class Credentials:
    """Raises DatabaseUnavailable everywhere."""

    def __init__(self, accounts: Accounts, session_lifetime: timedelta) -> None:
        self._accounts, self._lifetime = accounts, session_lifetime
        self._seen: dict[str, tuple[datetime, ApiKey | None]] = {}
        self._drops = 0

    async def begin_session(self, account: Account) -> str | None:
        """A refresh token for a new session; None: the account has another password by now."""
        session, secret = str(uuid7()), secrets.token_urlsafe(32)
        begun = await self._accounts.row(
            "WITH over AS (DELETE FROM sessions WHERE user_id = $2 AND (expires_at < now() OR id IN"
            " (SELECT id FROM sessions WHERE user_id = $2 ORDER BY id DESC OFFSET $5)))"
            " INSERT INTO sessions (id, user_id, token_hash, expires_at)"
            " SELECT $1, id, $3, $4 FROM users WHERE id = $2 AND password_hash = $6 FOR SHARE RETURNING id",
            session,
            account.user_id,
            _hash(secret),
            datetime.now(UTC) + self._lifetime,
            limits.SESSIONS_MAX - 1,
            account.password_hash,
        )
        return f"{SESSION_PREFIX}{session}_{secret}" if begun else None

    async def renew_session(self, token: str) -> tuple[str, str] | None:
        """User and next refresh token. None: not one of ours, or used before, and then its whole session is over."""
        parts = _parts(token, SESSION_PREFIX)
        if parts is None:
            return None
        session, secret = parts
        following = secrets.token_urlsafe(32)
        row = await self._accounts.row(
            "UPDATE sessions SET token_hash = $3, expires_at = $4"
            " WHERE id = $1 AND token_hash = $2 AND expires_at > now() RETURNING user_id",
            session,
            _hash(secret),
            _hash(following),
            datetime.now(UTC) + self._lifetime,
        )
        if row is None:
            # Whoever holds a token that was rotated away has stolen it, or was stolen from: nobody goes on with it.
            await self.end_session(token)
            return None
        return str(row["user_id"]), f"{SESSION_PREFIX}{session}_{following}"

    async def goes_on(self, session: str) -> bool:
        """Whether this session is neither over nor ended."""
        return (
            await self._accounts.row("SELECT id FROM sessions WHERE id = $1 AND expires_at > now()", session)
            is not None
        )

    async def end_session(self, token: str) -> None:
        """Its refresh token is worth nothing from now on."""
        if parts := _parts(token, SESSION_PREFIX):
            await self._accounts.row("DELETE FROM sessions WHERE id = $1 RETURNING id", parts[0])

    async def make_key(
        self, user: str, name: str, scopes: Sequence[str], expires_at: datetime | None
    ) -> tuple[ApiKey, str] | None:
        """The key and its secret, which is not kept; None: this user has as many as may be."""
        key, secret = str(uuid7()), secrets.token_urlsafe(32)
        row = await self._accounts.row_alone(
            user,
            "INSERT INTO api_keys (id, user_id, name, key_hash, scopes, expires_at)"
            " SELECT $1, $2, $3, $4, $5, $6 WHERE (SELECT count(*) FROM api_keys WHERE user_id = $2) < $7"
            " RETURNING *",
            key,
            user,
            name,
            _hash(secret),
            list(scopes),
            expires_at,
            limits.API_KEYS_MAX,
        )
        return (_key(row), f"{KEY_PREFIX}{key}_{secret}") if row else None

    async def keys(self, user: str) -> list[ApiKey]:
        """Newest first."""
        rows = await self._accounts.rows("SELECT * FROM api_keys WHERE user_id = $1 ORDER BY id DESC", user)
        return [_key(row) for row in rows]

    async def drop_key(self, user: str, key_id: str) -> bool:
        """Whether there was such a key. Other processes may take it for `API_KEY_KEPT` longer."""
        if (found := _uuid(key_id)) is None:
            return False
        statement = "DELETE FROM api_keys WHERE id = $1 AND user_id = $2 RETURNING id"
        try:
            return await self._accounts.row(statement, found, user) is not None
        finally:
            # Only now: who asked meanwhile was still told of it.
            self._drops += 1
            for text, (_, key) in list(self._seen.items()):
                if key and key.key_id == found:
                    del self._seen[text]

    async def key_of(self, text: str) -> ApiKey | None:
        """The key this secret belongs to, if it still holds."""
        if not text.isascii():  # and perhaps no text at all: headers bring any bytes
            return None
        now, digest = datetime.now(UTC), sha256(text.encode()).hexdigest()
        until, known = self._seen.get(digest, (now, None))
        if until <= now:
            drops = self._drops
            known = await self._look_up(text)
            if drops == self._drops:  # else it may be of one that is deleted by now
                self._remember(digest, known, now + limits.API_KEY_KEPT)
        return known if known and (known.expires_at is None or now < known.expires_at) else None

    def _remember(self, digest: str, known: ApiKey | None, until: datetime) -> None:
        if len(self._seen) >= limits.API_KEYS_SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[digest] = (until, known)

    async def _look_up(self, text: str) -> ApiKey | None:
        parts = _parts(text, KEY_PREFIX)
        row = await self._accounts.row("SELECT * FROM api_keys WHERE id = $1", parts[0]) if parts else None
        if parts is None or row is None or not hmac.compare_digest(row["key_hash"], _hash(parts[1])):
            return None
        return _key(row)


def _key(row: object) -> ApiKey:
    fields = dict(row)  # type: ignore[call-overload]  # a Record is no Mapping for mypy
    ends = fields["expires_at"]
    return ApiKey(
        str(fields["id"]),
        str(fields["user_id"]),
        fields["name"],
        tuple(fields["scopes"]),
        ends and ends.replace(tzinfo=UTC),  # the last moment there is comes back as infinity, which has no zone
        fields["created_at"],
    )


def session_of(refresh_token: str) -> str:
    """Which session a token of ours renews."""
    return refresh_token.removeprefix(SESSION_PREFIX).partition("_")[0]


def _parts(text: str, prefix: str) -> tuple[str, str] | None:
    if not text.startswith(prefix) or len(text) > limits.CREDENTIAL_CHARS_MAX:
        return None
    name, _, secret = text.removeprefix(prefix).partition("_")
    found = _uuid(name)
    return (found, secret) if secret and found else None


def _uuid(text: str) -> str | None:
    """The id as Postgres writes it: Python reads more spellings, and what the driver cannot read is a store away."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


def _hash(secret: str) -> bytes:
    # 256 random bits need no slow hash: there is nothing to guess.
    return sha256(secret.encode()).digest()
