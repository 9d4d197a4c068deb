"""Clients under fault: every operation is recorded as ok, failed or unknown, and nothing is assumed from a timeout."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

import aiohttp

from tests.verdict import shown
from tests.waiting import eventually

Outcome = Literal["ok", "failed", "unknown"]

ANSWER_WITHIN_S = 15  # above every deadline of the gateway: a longer silence is a hang
ACCEPTED_WITHIN_S = 120
PAUSE_S = 0.1
_NOT_SENT = (aiohttp.ClientConnectorError,)


@dataclass(frozen=True, slots=True)
class Operation:
    """One request of a client. `unknown`: it may have taken effect."""

    kind: str
    key: str
    outcome: Outcome
    status: int | None
    order_id: str
    began: float
    ended: float


@dataclass
class History:
    """Every operation of every client, in the order they ended."""

    operations: list[Operation] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)

    def record(self, kind: str, key: str, outcome: Outcome, status: int | None, order_id: str, began: float) -> None:
        self.operations.append(Operation(kind, key, outcome, status, order_id, began, time.monotonic()))

    @property
    def promised(self) -> dict[str, str]:
        """Order id by key, of every order that was answered with a 202."""
        return {op.key: op.order_id for op in self.operations if op.kind == "place" and op.outcome == "ok"}

    @property
    def contradictions(self) -> list[str]:
        """Keys that were answered with two different orders."""
        found: dict[str, set[str]] = {}
        for op in self.operations:
            if op.kind == "place" and op.outcome == "ok":
                found.setdefault(op.key, set()).add(op.order_id)
        return [f"{key}: {sorted(ids)}" for key, ids in found.items() if len(ids) > 1]

    def asked(self, key: str) -> bool:
        return any(op.key == key for op in self.operations)

    def summary(self) -> dict[str, Counter[str]]:
        """How often each kind of operation had each outcome."""
        counts: dict[str, Counter[str]] = {}
        for op in self.operations:
            counts.setdefault(op.kind, Counter())[op.outcome] += 1
        return counts


class FaultyClient:
    """A user who keeps on asking, as the API tells its users to."""

    def __init__(self, session: aiohttp.ClientSession, user_id: str, history: History) -> None:
        self.session, self.user_id, self.history = session, user_id, history

    async def accepted(self, **changes: Any) -> str:
        """Post one order under one key until there is a 202; gives its id."""
        key = uuid4().hex
        body = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "10", **changes}

        async def post() -> str:
            return await self.place(key, body)

        return await eventually(post, what="the order is accepted", within_s=ACCEPTED_WITHIN_S, poll_s=PAUSE_S)

    async def place(self, key: str, body: dict[str, Any]) -> str:
        """One try; gives the order's id or "". Any answer but 202 and 503 is an error of the gateway."""
        status, answer = await self._ask("place", key, "POST", "/api/orders", body, {"Idempotency-Key": key})
        assert status in {None, 202, 503}, f"{status}: {answer}"
        return str(answer.get("orderId", ""))

    async def list(self) -> int | None:
        """Look at the newest orders; gives the status, None: no answer."""
        status, _ = await self._ask("list", "", "GET", "/api/orders?limit=5", None, {})
        return status

    async def _ask(
        self, kind: str, key: str, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> tuple[int | None, dict[str, Any]]:
        began = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
        try:
            async with self.session.request(method, path, json=body, headers=headers, timeout=timeout) as response:
                answer = await response.json(content_type=None)
                status = response.status
        except _NOT_SENT:
            self.history.record(kind, key, "failed", None, "", began)
            return None, {}
        except TimeoutError:
            self.history.hung.append(f"{kind} {key}: no answer within {ANSWER_WITHIN_S} s")
            self.history.record(kind, key, "unknown", None, "", began)
            return None, {}
        except (aiohttp.ClientError, OSError):
            self.history.record(kind, key, "unknown", None, "", began)
            return None, {}
        except asyncio.CancelledError:
            self.history.record(kind, key, "unknown", None, "", began)
            raise
        self.history.record(kind, key, _outcome(status, answer), status, str(answer.get("orderId", "")), began)
        return status, answer


def _outcome(status: int, answer: dict[str, Any]) -> Outcome:
    if status < 400:
        return "ok"
    return "unknown" if answer.get("code") == "outcome_unknown" or status == 500 else "failed"


class Watcher:
    """A subscriber who comes back whenever the connection ends; keeps what each connection said."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self.transcripts: list[list[dict[str, Any]]] = []
        self._session, self._url = session, f"{base_url}/api/ws/orders"

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                await self._listen()
            await asyncio.sleep(PAUSE_S)

    async def _listen(self) -> None:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            socket = await self._session.ws_connect(self._url, heartbeat=20)
        transcript: list[dict[str, Any]] = []
        self.transcripts.append(transcript)
        try:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                transcript.append(json.loads(message.data))
        finally:
            await socket.close()

    def seen(self) -> dict[str, int]:
        """Version by order, as the present connection shows them; empty while there is none."""
        return shown(self.transcripts[-1] if self.transcripts else ())


@asynccontextmanager
async def signed_up_somehow(base_url: str, history: History) -> AsyncIterator[FaultyClient]:
    """A new user, however often the gateway goes away meanwhile."""

    async def sign_up() -> dict[str, Any]:
        body = {"email": f"{uuid4().hex}@example.org", "password": "correct horse battery"}
        try:
            async with (
                aiohttp.ClientSession(base_url) as anonymous,
                anonymous.post("/api/auth/signup", json=body) as answer,
            ):
                return dict(await answer.json()) if answer.status == 201 else {}
        except (aiohttp.ClientError, OSError):
            return {}

    given = await eventually(sign_up, what="signed up", within_s=240, poll_s=PAUSE_S)
    headers = {"Authorization": f"Bearer {given['token']}"}
    async with aiohttp.ClientSession(base_url, headers=headers) as session:
        yield FaultyClient(session, given["userId"], history)


async def until_cancelled(act: Any, every_s: float = PAUSE_S) -> None:
    """Do it again and again."""
    while True:
        await act()
        await asyncio.sleep(every_s)
