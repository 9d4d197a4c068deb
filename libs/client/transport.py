"""Requests that are repeated while that can help and does no harm."""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from libs.client.errors import ApiError, Unreachable

TRIES_MAX = 8
SILENT_S = 30.0  # of a stream that tells something every few seconds
PAUSE_FIRST_S, PAUSE_MAX_S = 0.2, 10.0
ANSWER_S = 15.0
SOCKET_ANSWER_S = 35.0  # when many reconnect at once each waits for its turn, for which the gateway allows 30 s
_RATE = re.compile(r'"(?P<name>[^"]*)";r=(?P<left>\d+);t=(?P<reset>\d+)')
_LOST = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What may still be asked: `remaining` now, and all of it again after `reset_s` seconds."""

    name: str
    remaining: int
    reset_s: int


class Transport:
    """One session against one address. A refresh token renews the access token when it has expired."""

    def __init__(self, base_url: str, *, token: str, refresh_token: str = "", tries_max: int = TRIES_MAX) -> None:
        self.token, self._refresh_token, self.tries_max = token, refresh_token, tries_max
        # aiohttp has no other way to say how long a socket may take to open.
        patient = aiohttp.ClientTimeout(total=SOCKET_ANSWER_S, sock_connect=ANSWER_S)
        self.session = aiohttp.ClientSession(base_url, timeout=patient)
        self.request_id = ""
        self.rate_limit: RateLimit | None = None
        self._renewing: asyncio.Task[bool] | None = None

    async def aclose(self) -> None:
        if self._renewing and not self._renewing.done():
            await asyncio.wait([self._renewing])
        await self.session.close()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    async def ask(
        self, method: str, path: str, body: Any = None, *, params: Mapping[str, str] | None = None, key: str = ""
    ) -> Any:
        """The parsed answer. A POST is repeated only with an idempotency key.

        Raises:
            ApiError: the API refuses, or still cannot after the last try.
            Unreachable: no answer.
        """
        repeatable = method != "POST" or bool(key)
        tried = 0
        while True:
            tried += 1
            try:
                return await self._let_in(method, path, body, params, key)
            except ApiError as error:
                if not error.retryable or not repeatable or tried >= self.tries_max:
                    raise
                wait_s = max(pause(tried), error.retry_after_s)
            except (*_LOST, Unreachable) as error:
                if not repeatable or tried >= self.tries_max:
                    raise Unreachable(f"{method} {path}: {str(error) or type(error).__name__}", key) from error
                wait_s = pause(tried)
            await asyncio.sleep(wait_s)

    @asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str]) -> AsyncIterator[AsyncIterator[Any]]:
        """The data of a stream of Server-Sent Events, parsed; it ends when the connection does.

        Raises:
            ApiError, Unreachable
        """
        endless = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_S, sock_read=SILENT_S)
        token = self.token
        try:
            for last in (False, True):
                async with self.session.get(path, params=params, headers=self.headers, timeout=endless) as answer:
                    if answer.status < 400:
                        yield _data_of(answer.content)
                        return
                    refused = ApiError(_problem(answer, await answer.read()))
                if last or refused.code != "token_invalid" or not await self.renew(token):
                    raise refused
        except _LOST as error:
            raise Unreachable(f"GET {path}: {str(error) or type(error).__name__}") from error

    def go_on_as(self, token: str, refresh_token: str) -> None:
        """From now on speak for another session."""
        self.token, self._refresh_token = token, refresh_token

    async def end_session(self) -> None:
        """The refresh token is worth nothing from now on."""
        ended, self._refresh_token = self._refresh_token, ""
        if ended:
            await self.ask("POST", "/api/auth/logout", {"refreshToken": ended})

    async def renew(self, token: str) -> bool:
        """Get another access token than `token`; False: there is no way to.

        Raises:
            Unreachable, ApiError: not now; asking again later may help.
        """
        if self.token != token:
            return True
        if not self._renewing or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())
        # A refresh token is good once: a caller that is cancelled must not lose the next one.
        return await asyncio.shield(self._renewing)

    async def _renew(self) -> bool:
        if not self._refresh_token:
            return False
        try:
            given = await self._once("POST", "/api/auth/refresh", {"refreshToken": self._refresh_token}, None, "")
        except _LOST as error:
            raise Unreachable(f"POST /api/auth/refresh: {str(error) or type(error).__name__}") from error
        except ApiError as error:
            if error.retryable:
                raise
            self._refresh_token = ""  # the session is over
            return False
        self.go_on_as(given["token"], given["refreshToken"])
        return True

    async def be_let_in_again(self, token: str, *, was_in: bool = False) -> None:
        """A socket was closed to `token`: get another, if not now then before the next try.

        `was_in`: it had been open. One that an API key has opened ends after a while; the key opens the next, and
        whether a token does is said there.

        Raises:
            ApiError: there is no way to.
        """
        try:
            if not await self.renew(token) and not (was_in and token):
                raise ApiError({"status": 401, "code": "token_invalid", "detail": "no way to be let in again"})
        except Unreachable:
            pass
        except ApiError as error:
            if not error.retryable:
                raise

    async def _let_in(self, method: str, path: str, body: Any, params: Mapping[str, str] | None, key: str) -> Any:
        """`_once`, and once more where the access token had ended and another is to be had."""
        token = self.token
        try:
            return await self._once(method, path, body, params, key)
        except ApiError as error:
            if error.code != "token_invalid" or not await self.renew(token):
                raise
        return await self._once(method, path, body, params, key)

    async def _once(self, method: str, path: str, body: Any, params: Mapping[str, str] | None, key: str) -> Any:
        headers = {**self.headers, **({"Idempotency-Key": key} if key else {})}
        soon = aiohttp.ClientTimeout(total=ANSWER_S)
        asking = self.session.request(method, path, json=body, params=params, headers=headers, timeout=soon)
        async with asking as answer:
            raw = await answer.read()
            self.request_id = answer.headers.get("X-Request-Id", "")
            self.rate_limit = _rate_limit(answer.headers.get("RateLimit", "")) or self.rate_limit
            if answer.status < 400:
                return json.loads(raw) if raw else None
            raise ApiError(_problem(answer, raw))


async def _data_of(lines: aiohttp.StreamReader) -> AsyncIterator[Any]:
    async for line in lines:
        if line.startswith(b"data:"):
            yield json.loads(line.removeprefix(b"data:"))


def _rate_limit(header: str) -> RateLimit | None:
    found = _RATE.search(header)
    return RateLimit(found["name"], int(found["left"]), int(found["reset"])) if found else None


def _problem(answer: aiohttp.ClientResponse, raw: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(raw)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):  # somebody between us and the API
        problem = {"detail": raw[:200].decode(errors="replace"), "retryable": answer.status in {429, 502, 503, 504}}
    return {**problem, "status": answer.status, "retryAfter": seconds(answer.headers.get("Retry-After", ""))}


def seconds(retry_after: str) -> float:
    """What a Retry-After says, 0 if nothing."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0


def pause(tried: int) -> float:
    """Seconds to wait after so many tries: exponential, half of it chance, so that clients do not march in step."""
    longest = min(PAUSE_MAX_S, PAUSE_FIRST_S * 2 ** min(tried - 1, 16))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, guards nothing
