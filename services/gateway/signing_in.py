"""What happens for each address under `/api/auth` and `/api/keys`: accounts, sessions, tickets, API keys."""

from aiohttp import web

from libs.orders.presentation import shown_time
from libs.service.tokens import issue_token
from services.gateway import dto_accounts, observe
from services.gateway.accounts import Account
from services.gateway.answers import SECRET, answer, nothing
from services.gateway.callers import Caller
from services.gateway.credentials import ApiKey, session_of
from services.gateway.parts import Parts
from services.gateway.problems import Problem
from services.gateway.reading import REQUEST_ID, read_body
from services.gateway.senders import sender_of


class SigningIn:
    """Every handler; `services.gateway.app` says which address each has."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def sign_up(self, request: web.Request) -> web.Response:
        """POST /api/auth/signup."""
        signup = dto_accounts.read_signup(await read_body(request))
        await self._parts.rates.try_to_sign_up(sender_of(request, self._parts.proxies))
        kept = await self._parts.passwords.hash(signup.password)
        user = await self._parts.accounts.create(signup.email, signup.name, kept)
        observe.signed_up(user, request[REQUEST_ID])
        return await self._begun(request, Account(user, kept), 201)

    async def log_in(self, request: web.Request) -> web.Response:
        """POST /api/auth/login."""
        account = await self._account(request, dto_accounts.read_login(await read_body(request)))
        begun = await self._begun(request, account, 200)
        observe.logged_in(account.user_id, request[REQUEST_ID])
        return begun

    async def change_password(self, request: web.Request) -> web.Response:
        """POST /api/auth/password: ends all sessions, and begins one."""
        asked = dto_accounts.read_password(await read_body(request))
        account = await self._account(request, asked)
        kept = await self._parts.passwords.hash(asked.new_password)
        if not await self._parts.accounts.change_password(account, kept):
            raise _refused(request)  # somebody else was quicker, and it is another one by now
        observe.password_changed(account.user_id, request[REQUEST_ID])
        return await self._begun(request, Account(account.user_id, kept), 200)

    async def _account(self, request: web.Request, login: dto_accounts.LoginBody) -> Account:
        """Whose email and password these are; raises Problem when they are nobody's."""
        email = dto_accounts.normal_email(login.email)
        await self._parts.rates.try_to_sign_in(email or "", sender_of(request, self._parts.proxies))
        account = await self._parts.accounts.find(email) if email else None
        same = await self._parts.passwords.check(login.password, account.password_hash if account else None)
        if account is None or not same:
            raise _refused(request)
        return account

    async def renew(self, request: web.Request) -> web.Response:
        """POST /api/auth/refresh: a new access token, and the refresh token that is good next."""
        renewed = await self._parts.credentials.renew_session(dto_accounts.read_refresh(await read_body(request)))
        if renewed is None:
            observe.renewal_refused(request[REQUEST_ID])
            raise Problem("refresh_token_invalid", "Log in again: the session is over, or this token was used before.")
        user, token = renewed
        observe.session_renewed(user, request[REQUEST_ID])
        return self._tokens(user, token, 200)

    async def log_out(self, request: web.Request) -> web.Response:
        """POST /api/auth/logout: ends the session. Access tokens given out before hold until they expire."""
        await self._parts.credentials.end_session(dto_accounts.read_refresh(await read_body(request)))
        return nothing()

    async def make_ticket(self, request: web.Request) -> web.Response:
        """POST /api/auth/tickets: opens one WebSocket or event stream, where no header can be sent."""
        caller = await self._parts.callers.of(request, "orders:read")
        await self._parts.rates.spend(request, "reads", caller.key_id or caller.user)
        ticket, until = await self._parts.shared.make_ticket(caller.claims)
        return answer({"ticket": ticket, "expiresAt": shown_time(until)}, 201, SECRET)

    async def make_key(self, request: web.Request) -> web.Response:
        """POST /api/keys: the only time the key itself is shown."""
        caller = await self._person(request)
        name, scopes, expires_at = dto_accounts.read_key(await read_body(request), self._parts.clock())
        made = await self._parts.credentials.make_key(caller.user, name, scopes, expires_at)
        if made is None:
            raise Problem("too_many_api_keys", "Delete one that is not needed any more.")
        key, secret = made
        observe.key_made(key.key_id, caller.user, request[REQUEST_ID])
        return answer({**_key_body(key), "key": secret}, 201, {**SECRET, "Location": f"/api/keys/{key.key_id}"})

    async def list_keys(self, request: web.Request) -> web.Response:
        """GET /api/keys."""
        caller = await self._person(request)
        return answer({"keys": [_key_body(key) for key in await self._parts.credentials.keys(caller.user)]})

    async def drop_key(self, request: web.Request) -> web.Response:
        """DELETE /api/keys/{key_id}."""
        caller = await self._person(request)
        key_id = request.match_info["key_id"]
        if not await self._parts.credentials.drop_key(caller.user, key_id):
            raise Problem("api_key_not_found", "You have no API key with this id.")
        observe.key_dropped(key_id, caller.user, request[REQUEST_ID])
        return nothing()

    async def _person(self, request: web.Request) -> Caller:
        """Who is logged in: no key makes keys, nor does what is left of a session that is over.

        Counted as what is read is, for each key has a rate of its own.
        """
        caller = await self._parts.callers.person(request)
        await self._parts.rates.spend(request, "reads", caller.user)
        return caller

    async def _begun(self, request: web.Request, account: Account, status: int) -> web.Response:
        token = await self._parts.credentials.begin_session(account)
        if token is None:
            raise _refused(request)
        return self._tokens(account.user_id, token, status)

    def _tokens(self, user: str, refresh_token: str, status: int) -> web.Response:
        lifetime = self._parts.token_lifetime
        body = {
            "userId": user,
            "token": issue_token(user, self._parts.secret, lifetime=lifetime, session=session_of(refresh_token)),
            "expiresIn": int(lifetime.total_seconds()),
            "refreshToken": refresh_token,
        }
        return answer(body, status, SECRET)


def _refused(request: web.Request) -> Problem:
    observe.login_refused(request[REQUEST_ID])
    return Problem("credentials_invalid", "There is no account with this email and password.")


def _key_body(key: ApiKey) -> dict[str, object]:
    return {
        "keyId": key.key_id,
        "name": key.name,
        "scopes": list(key.scopes),
        "expiresAt": shown_time(key.expires_at),
        "createdAt": shown_time(key.created_at),
    }
