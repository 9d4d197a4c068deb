"""Who a request speaks for, by an access token or an API key, and what it may do."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import hdrs, web

from libs.service.tokens import Claims, InvalidToken, verify_token
from services.gateway import limits
from services.gateway.credentials import KEY_PREFIX, Credentials
from services.gateway.problems import Problem

_REALM = 'Bearer realm="swaplog"'


@dataclass(frozen=True, slots=True)
class Caller:
    """`key_id`: of the API key that was sent, and `key` itself; None: a person with an access token, of `session`."""

    user: str
    scopes: tuple[str, ...]
    expires_at: datetime
    key_id: str | None = None
    key: str | None = field(default=None, repr=False)
    session: str = ""

    @property
    def claims(self) -> Claims:
        return Claims(self.user, self.expires_at)


class Callers:
    """`secrets`: the first signs, all are accepted."""

    def __init__(self, credentials: Credentials, secrets: tuple[str, ...]) -> None:
        self._credentials, self._secrets = credentials, secrets
        self._known: dict[str, Caller] = {}  # by access token

    async def of(self, request: web.Request, scope: str | None) -> Caller:
        """Who asks. `scope`: what an API key must be good for; None: API keys are not enough.

        Raises:
            Problem, DatabaseUnavailable
        """
        text = credential_of(request)
        if text is None:
            detail = "Send the token of a login or an API key: Authorization: Bearer <token>."
            raise Problem("token_missing", detail, headers={"WWW-Authenticate": _REALM})
        return await self.by_text(text, scope)

    async def by_text(self, text: str, scope: str | None) -> Caller:
        """Whose access token or API key this is.

        Raises:
            Problem, DatabaseUnavailable
        """
        known = self._known.get(text)
        if known and datetime.now(UTC) < known.expires_at:
            return known
        return await self._by_key(text, scope) if text.startswith(KEY_PREFIX) else self._by_token(text)

    async def again(self, caller: Caller, scope: str) -> Caller:
        """Who was let in before, if he still may: a key can be deleted while its socket is open.

        Raises:
            Problem, DatabaseUnavailable
        """
        return await self._by_key(caller.key, scope) if caller.key else caller

    async def person(self, request: web.Request) -> Caller:
        """Whose session it is that this request's access token was issued for, and which goes on.

        Raises:
            Problem, DatabaseUnavailable
        """
        caller = await self.of(request, None)
        if caller.session and not await self._credentials.goes_on(caller.session):
            raise _invalid("The session of this token is over: log in again.")
        return caller

    def _by_token(self, text: str) -> Caller:
        self._known.pop(text, None)
        if not text:
            raise _invalid("The token is empty.")
        try:
            claims = verify_token(text, *self._secrets)
        except InvalidToken as error:
            raise _invalid(str(error)) from None
        if len(self._known) >= limits.TOKENS_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        caller = self._known[text] = Caller(claims.user_id, limits.SCOPES, claims.expires_at, session=claims.session)
        return caller

    async def _by_key(self, text: str, scope: str | None) -> Caller:
        key = await self._credentials.key_of(text)
        if key is None:
            raise _invalid("The API key is not valid.")
        if scope is None:
            raise Problem("scope_missing", "This needs the access token of a login; an API key is not enough.")
        if scope not in key.scopes:
            raise Problem("scope_missing", f"The API key lacks the scope {scope}.", needs=scope)
        # A connection is not told that its key was deleted, so it must end before long, however long the key holds.
        longest = datetime.now(UTC) + limits.API_KEY_SOCKET
        return Caller(key.user_id, key.scopes, min(key.expires_at or longest, longest), key.key_id, text)


def _invalid(why: str) -> Problem:
    headers = {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'}
    return Problem("token_invalid", why, headers=headers)


def sent_key(request: web.Request) -> bool:
    """Whether the request carries an API key."""
    bearer = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")[2].strip()
    return "X-API-Key" in request.headers or bearer.startswith(KEY_PREFIX)


def credential_of(request: web.Request) -> str | None:
    """The token or API key in the headers; empty: none of ours can be so."""
    if key := request.headers.get("X-API-Key"):
        return key.strip()
    scheme, _, text = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None
