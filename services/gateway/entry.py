"""`WS /api/ws/entry`: orders placed and cancelled over one socket of the gateway, answered in the order they came.

A message goes the way a request goes: the same checks, keys, rates and commit. Many may be under way at once, and share
their writes; what is read is bounded, so that a client who sends faster than orders are taken is read more slowly.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from aiohttp import WSMsgType, web

from libs.events.errors import LogMismatch
from libs.service.door import connections_max
from libs.service.strangers import Strangers
from services.gateway import dto, limits
from services.gateway.accounts import DatabaseUnavailable
from services.gateway.api import Api
from services.gateway.bodies import Invalid, Malformed, parse, whole
from services.gateway.callers import Caller, credential_of
from services.gateway.entry_talk import Answer, Talk
from services.gateway.fates import report
from services.gateway.frames import RECONNECT_SPREAD_MS, RESTARTING
from services.gateway.parts import Parts
from services.gateway.placing import Asker
from services.gateway.problems import Problem, document
from services.gateway.reading import REQUEST_ID, check_handshake, weight_of
from services.gateway.tracing import traceparent_of

PATH = "/api/ws/entry"
UNAUTHORIZED, TOO_MANY, TRY_LATER = 4401, 4429, 1013
_SCOPE = "orders:write"


class OrderEntry:
    """Every such socket of this process."""

    def __init__(self, parts: Parts, api: Api) -> None:
        self._parts, self._api = parts, api
        self._open: set[Talk] = set()
        self._strangers = Strangers()
        self._of_user: Counter[str] = Counter()
        self._closing: set[asyncio.Task[Any]] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Upgrade and converse. With a credential in the header every refusal is a plain HTTP answer."""
        check_handshake(request)
        text = credential_of(request)
        caller = await self._parts.callers.by_text(text, _SCOPE) if text else None
        most = min(limits.ENTRY_SOCKETS_MAX, connections_max() // limits.ENTRY_ONE_IN)
        if len(self._open) >= most:
            raise Problem("busy", "Too many sockets for orders are open.")
        ws = web.WebSocketResponse(
            heartbeat=limits.ENTRY_PING_S, max_msg_size=limits.BODY_BYTES_MAX, compress=False, timeout=limits.LINGER_S
        )
        if not ws.can_prepare(request).ok:
            raise Problem("malformed_request", "This is no handshake of a WebSocket.")
        if caller and self._of_user[caller.user] >= limits.ENTRY_SOCKETS_PER_USER_MAX:
            raise Problem("too_many_connections", "Close one first.")
        await ws.prepare(request)
        talk = Talk(request, ws)
        self._open.add(talk)
        if caller is None:
            self._strangers.came(talk, min(limits.ENTRY_STRANGERS_MAX, max(1, most // 10)))
        try:
            first, name = (caller, None) if caller else await self._first_message(talk)
            if await self._let_in(talk, first):
                if caller is None:
                    await talk.say(_authenticated(talk, name))
                await self._converse(talk)
        finally:
            self._leave(talk)
        return ws

    async def drain(self) -> None:
        """Answer what is in hand, then tell each another time to come back."""

        async def end(talk: Talk) -> None:
            talk.draining = True
            with suppress(TimeoutError):  # somebody who does not read would keep it for ever
                async with asyncio.timeout(limits.LINGER_S):
                    await talk.answers.join()
            wait_ms = random.randrange(RECONNECT_SPREAD_MS)  # noqa: S311 - spread, not secrecy
            await talk.close(RESTARTING, f"restarting, reconnect in {wait_ms} ms")

        await asyncio.gather(*map(end, self._open), return_exceptions=True)

    async def _first_message(self, talk: Talk) -> tuple[Caller | None, object]:
        """Who speaks, and the message's name."""
        try:
            async with asyncio.timeout(limits.ENTRY_AUTH_WAIT_S):  # receive's own begins anew with each ping
                message = await talk.ws.receive()
            said = parse(message.data.encode(errors="replace")) if message.type is WSMsgType.TEXT else {}
            if said.get("op") == "auth":
                caller, name = await self._parts.callers.by_text(whole(str(said.get("token"))), _SCOPE), said.get("id")
                return caller, name if _is_name(name) else None
        except DatabaseUnavailable:
            await talk.close(TRY_LATER, "API keys cannot be checked now, reconnect")
        except (TimeoutError, Malformed, Invalid, Problem):
            pass
        return None, None

    async def _let_in(self, talk: Talk, caller: Caller | None) -> bool:
        """From now on the socket speaks for `caller`, until the credential ends."""
        if caller is None or (talk.caller and talk.caller.user != caller.user):
            await talk.close(UNAUTHORIZED, "no valid token that may place orders")
            return False
        if talk.caller is None:
            # Who says it first on the socket was not counted before.
            if self._of_user[caller.user] >= limits.ENTRY_SOCKETS_PER_USER_MAX:
                await talk.close(TOO_MANY, "too many connections of this user")
                return False
            self._of_user[caller.user] += 1
        if talk.expiry:
            talk.expiry.cancel()
        talk.caller = caller
        self._strangers.gone(talk)
        left_s = max(0.0, (caller.expires_at - datetime.now(UTC)).total_seconds())
        talk.expiry = asyncio.get_running_loop().call_later(left_s, self._expire, talk)
        return True

    def _expire(self, talk: Talk) -> None:
        closing = asyncio.ensure_future(talk.close(UNAUTHORIZED, "token expired, reconnect"))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _leave(self, talk: Talk) -> None:
        self._open.discard(talk)
        self._strangers.gone(talk)
        if talk.expiry:
            talk.expiry.cancel()
        if talk.caller:
            self._of_user[talk.caller.user] -= 1
            if not self._of_user[talk.caller.user]:
                del self._of_user[talk.caller.user]

    async def _converse(self, talk: Talk) -> None:
        telling = asyncio.create_task(talk.tell())
        try:
            async for message in talk.ws:
                data = message.data if message.type is WSMsgType.TEXT else ""
                await talk.answers.put(asyncio.create_task(self._answer(talk, data)))
        finally:
            # What was taken is carried through, though nobody may hear of it; but not where nobody is left to tell.
            told = asyncio.create_task(talk.answers.join())
            await asyncio.wait([told, telling], return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            telling.cancel()

    async def _answer(self, talk: Talk, text: str) -> Answer:
        raw = text.encode(errors="replace")
        try:
            said = parse(raw)
        except (Malformed, Invalid):
            return _error("bad_message", "A message is a JSON object with an op.")
        op, name = said.get("op"), said.get("id")
        if not (name is None or _is_name(name)):
            return _error("bad_message", "id is a text of your own, given back with the answer.")
        named: Answer = {"op": op, "id": name}
        match op:
            case "ping":
                return {"type": "pong", "id": name}
            case "auth":
                return await self._renewed(talk, whole(str(said.get("token"))), named)
            case "order.place" | "order.cancel":
                return {"type": "result", **named, **await self._result(talk, said, weight_of(len(raw)))}
            case _:
                return _error("unknown_op", "Known are order.place, order.cancel, auth and ping.", name)

    async def _renewed(self, talk: Talk, token: str, named: Answer) -> Answer:
        try:
            caller = await self._parts.callers.by_text(token, _SCOPE)
        except Exception as refused:
            return {"type": "result", **named, **self._refusal(talk, refused)}
        if not await self._let_in(talk, caller):  # the socket is closed: that is the answer
            foreign = Problem("token_invalid", "Somebody else's token.")
            return {"type": "result", **named, **self._refusal(talk, foreign)}
        return _authenticated(talk, named["id"])

    async def _result(self, talk: Talk, said: Mapping[str, Any], weight: int) -> Answer:
        try:
            if talk.draining:
                raise Problem("busy", "This gateway restarts; nothing was done.")
            assert talk.caller is not None
            caller = await self._parts.callers.again(talk.caller, _SCOPE)
            who = caller.key_id or caller.user
            await self._parts.rates.spend(talk.request, "writes", who, weight)
            trace = traceparent_of(_text(said.get("traceparent")))
            asker = Asker(caller.user, talk.request[REQUEST_ID], trace, who)
            if said["op"] == "order.cancel":
                order = await self._api.cancel_for(asker, str(said.get("orderId")))
                return self._api.result(order, talk.request)
            self._parts.overload.check()
            asked = dto.read_item(said.get("order"), self._parts.clock())
            if isinstance(asked, Invalid):
                raise asked
            return self._api.result(await self._api.place_for(asker, *asked), talk.request)
        except Exception as error:
            if isinstance(error, LogMismatch):
                self._parts.log_open.clear()
            return self._refusal(talk, error)

    def _refusal(self, talk: Talk, error: Exception) -> Answer:
        problem = report(error, talk.request)
        later = {"retryAfter": int(problem.headers["Retry-After"])} if "Retry-After" in problem.headers else {}
        whole = document(problem, PATH, talk.request[REQUEST_ID])
        return {"status": problem.kind.status, "problem": {**whole, **later}}


def _authenticated(talk: Talk, name: object) -> Answer:
    assert talk.caller is not None
    return {"type": "authenticated", "id": name, "expiresAt": talk.caller.expires_at.isoformat()}


def _error(code: str, detail: str, name: object = None) -> Answer:
    return {"type": "error", "id": name, "code": code, "detail": detail}


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= limits.IDEMPOTENCY_KEY_CHARS_MAX and whole(value) == value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
