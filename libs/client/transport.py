"""Requests that are repeated while that can help and does no harm."""

import asyncio
import json
import random
from collections.abc import Mapping
from typing import Any

import aiohttp

from libs.client.errors import ApiError, Unreachable

TRIES_MAX = 8
PAUSE_FIRST_S, PAUSE_MAX_S = 0.2, 10.0
ANSWER_S = 15.0


class Transport:
    """One session against one address. A refresh token renews the access token when it has expired."""

    def __init__(self, base_url: str, *, token: str, refresh_token: str = "", tries_max: int = TRIES_MAX) -> None:
        self.token, self._refresh_token, self._tries_max = token, refresh_token, tries_max
        self.session = aiohttp.ClientSession(base_url, timeout=aiohttp.ClientTimeout(total=ANSWER_S))
        self._renewing = asyncio.Lock()

    async def aclose(self) -> None:
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
            token = self.token
            try:
                return await self._once(method, path, body, params, key)
            except ApiError as error:
                if error.code == "token_invalid" and await self.renew(token):
                    continue
                if not error.retryable or not repeatable or tried >= self._tries_max:
                    raise
                wait_s = max(pause(tried), float(error.problem.get("retryAfter", 0)))
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                if not repeatable or tried >= self._tries_max:
                    raise Unreachable(f"{method} {path}: {error or type(error).__name__}") from error
                wait_s = pause(tried)
            await asyncio.sleep(wait_s)

    def go_on_as(self, token: str, refresh_token: str) -> None:
        """From now on speak for another session."""
        self.token, self._refresh_token = token, refresh_token

    async def renew(self, token: str) -> bool:
        """Get another access token than `token`; False: there is no way to."""
        async with self._renewing:
            if self.token != token:
                return True
            if not self._refresh_token:
                return False
            used, self._refresh_token = self._refresh_token, ""
            given = await self._once("POST", "/api/auth/refresh", {"refreshToken": used}, None, "")
            self.go_on_as(given["token"], given["refreshToken"])
            return True

    async def _once(self, method: str, path: str, body: Any, params: Mapping[str, str] | None, key: str) -> Any:
        headers = {**self.headers, **({"Idempotency-Key": key} if key else {})}
        async with self.session.request(method, path, json=body, params=params, headers=headers) as answer:
            raw = await answer.read()
            if answer.status < 400:
                return json.loads(raw) if raw else None
            raise ApiError(_problem(answer, raw))


def _problem(answer: aiohttp.ClientResponse, raw: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(raw)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):  # somebody between us and the API
        problem = {"detail": raw[:200].decode(errors="replace"), "retryable": answer.status in {429, 502, 503, 504}}
    after = answer.headers.get("Retry-After", "")
    return {**problem, "status": answer.status, "retryAfter": float(after) if after.isdigit() else 0.0}


def pause(tried: int) -> float:
    """Seconds to wait after so many tries: exponential, half of it chance, so that clients do not march in step."""
    longest = min(PAUSE_MAX_S, PAUSE_FIRST_S * 2 ** min(tried - 1, 16))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, guards nothing
