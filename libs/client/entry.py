"""Many orders over one socket, each placed once, whatever becomes of the socket."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp

from libs.client.errors import ApiError, Unreachable
from libs.client.transport import Transport, pause
from libs.client.types import Order
from libs.client.watching import TOKEN_EXPIRED, wait_told

PATH = "/api/ws/entry"
PING_EVERY_S = 10.0
IN_HAND_MAX = 128  # what a gateway works on at once for one socket
TOO_LONG = 1009


class Asked(NamedTuple):
    """A message somebody waits for the answer of; `last_loss`: with this loss of a socket he has waited enough."""

    text: str
    answered: asyncio.Future[dict[str, Any]]
    last_loss: int


class Entry:
    """`async with client.entry() as entry:`. Calls may overlap; what is unanswered when it breaks is sent again.

    A call raises Unreachable when as many sockets as the client's `tries_max` were lost, or not to be had, meanwhile.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._asked: dict[str, Asked] = {}
        self._losses, self._last_loss = 0, ""
        self._sent: deque[str] = deque()  # names of what this socket has still to answer, which it does in order
        self._room = asyncio.Semaphore(IN_HAND_MAX)
        self._ws: aiohttp.ClientWebSocketResponse | None = None
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Entry":
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def place(
        self, token_in: str, token_out: str, amount: object, *, key: str | None = None, **terms: Any
    ) -> Order:
        """As `Client.place`.

        Raises:
            ApiError: the API refuses. Unreachable: it cannot be asked, or not any more; ask again under its `key`.
        """
        key = key or str(terms.get("clientOrderId") or uuid4())
        body = {"tokenIn": token_in, "tokenOut": token_out, "amount": str(amount), **terms, "idempotencyKey": key}
        try:
            return Order.of((await self._ask({"op": "order.place", "order": body}))["order"])
        except Unreachable as lost:
            raise Unreachable(str(lost), key) from lost.__cause__

    async def cancel(self, order_id: str) -> Order:
        """As `Client.cancel`."""
        return Order.of((await self._ask({"op": "order.cancel", "orderId": order_id}))["order"])

    async def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        name, tried, last_loss = uuid4().hex, 0, self._losses + self._transport.tries_max
        # Before it is kept to be sent again: one that is no JSON must not break the others.
        text = json.dumps({**message, "id": name})
        async with self._room:
            while True:
                tried += 1
                answer = await self._answer(name, text, last_loss)
                if "problem" not in answer:
                    return answer
                refused = ApiError({**answer["problem"], "status": answer["status"]})
                if not refused.retryable or tried >= self._transport.tries_max:
                    raise refused
                await asyncio.sleep(max(pause(tried), refused.retry_after_s))

    async def _answer(self, name: str, text: str, last_loss: int) -> dict[str, Any]:
        if self._running is None or self._running.done():
            raise Unreachable("the socket for orders is closed") from self._why()
        if self._ws is None and self._losses >= last_loss:  # while others had all the room
            raise Unreachable(self._last_loss)
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[name] = Asked(text, answered, last_loss)
        try:
            if self._ws is not None and not self._ws.closed:
                with suppress(ConnectionError):  # it is sent again over the next one
                    await self._send(self._ws, name, text)
            ends: list[asyncio.Future[Any]] = [answered, self._running]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                raise Unreachable("the socket for orders was closed") from self._why()
            return answered.result()
        finally:
            del self._asked[name]

    def _why(self) -> BaseException | None:
        done = self._running and self._running.done() and not self._running.cancelled()
        return self._running.exception() if self._running and done else None

    async def _run(self) -> None:
        """Keep a socket until cancelled, or until there is no way to be let in."""
        failures = 0
        while True:
            token, wait_s, why = self._transport.token, 0.0, ""
            try:
                socket = self._transport.session.ws_connect(
                    PATH, headers=self._transport.headers, heartbeat=PING_EVERY_S
                )
                async with socket as ws:
                    self._ws = ws  # first: what is asked from here on is sent by who asks, some of it twice
                    self._sent.clear()
                    for name, asked in list(self._asked.items()):
                        await self._send(ws, name, asked.text)
                    while (told := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                        failures = 0
                        self._told(json.loads(told.data))
                    wait_s, why = wait_told(str(told.extra or "")), f"closed with {ws.close_code}"
                    await self._after_close(ws.close_code, token)
            except aiohttp.WSServerHandshakeError as refused:
                why = f"refused with {refused.status}"
                if refused.status == 401:
                    await self._transport.be_let_in_again(token)
                elif refused.status < 500 and refused.status != 429:
                    raise ApiError({"status": refused.status, "detail": "no socket for orders is opened"}) from refused
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                why = str(error) or type(error).__name__  # whatever it was: come back
            finally:
                self._ws = None
            failures += 1
            self._lost(why)
            await asyncio.sleep(max(wait_s, pause(failures)))

    def _lost(self, why: str) -> None:
        """A socket is gone, or could not be opened: calls that have waited for enough of them end with an error."""
        self._losses, self._last_loss = self._losses + 1, f"{PATH}: {why}"
        for asked in self._asked.values():
            if self._losses >= asked.last_loss and not asked.answered.done():
                asked.answered.set_exception(Unreachable(self._last_loss))

    async def _send(self, ws: aiohttp.ClientWebSocketResponse, name: str, text: str) -> None:
        self._sent.append(name)
        await ws.send_str(text)

    async def _after_close(self, code: int | None, token: str) -> None:
        if code == TOKEN_EXPIRED:
            await self._transport.be_let_in_again(token, was_in=True)
        elif code == TOO_LONG and self._asked:  # sent again it would end the next socket, too
            longest = max(self._asked.values(), key=lambda asked: len(asked.text))
            _refuse(longest.answered, 413, "body_too_large", "The order is too long for a message.")

    def _told(self, answer: dict[str, Any]) -> None:
        if answer["type"] not in {"result", "error"}:
            return  # a kind of message that is newer than this
        sent = self._sent.popleft() if self._sent else ""
        # What could not be read at all is answered without its name.
        asked = self._asked.get(str(answer.get("id") or sent))
        if asked is None or asked.answered.done():
            return
        if answer["type"] == "error":
            _refuse(asked.answered, 400, answer["code"], answer["detail"])
        else:
            asked.answered.set_result(answer)


def _refuse(answered: asyncio.Future[dict[str, Any]], status: int, code: str, detail: str) -> None:
    if not answered.done():
        answered.set_result({"status": status, "problem": {"code": code, "detail": detail}})
