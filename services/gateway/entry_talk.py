"""One socket of `/api/ws/entry`: who speaks, what is still to be answered, and how it ends."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import ClientConnectionError, web

from services.gateway import limits
from services.gateway.callers import Caller

Answer = dict[str, object]


@dataclass(eq=False)
class Talk:
    """Answers leave in the order of what was asked."""

    request: web.Request
    ws: web.WebSocketResponse
    caller: Caller | None = None
    answers: asyncio.Queue[Awaitable[Answer]] = field(
        default_factory=lambda: asyncio.Queue(limits.ENTRY_MESSAGES_IN_HAND_MAX)
    )
    expiry: asyncio.TimerHandle | None = None
    draining: bool = False

    async def tell(self) -> None:
        """Send answers for as long as there are any."""
        while True:
            answer = await (await self.answers.get())
            try:
                await self.say(answer)
            finally:
                self.answers.task_done()

    async def say(self, answer: Answer) -> None:
        """Send one now. Who has gone does not hear it; the log has what was placed."""
        try:
            with self._patience(limits.ENTRY_UNREAD_S):
                if not self.ws.closed:
                    await self.ws.send_str(orjson.dumps(answer).decode())
        except (ConnectionError, ClientConnectionError):
            pass

    def cut(self) -> None:
        """See `Stranger.cut`."""
        if transport := self.request.transport:
            transport.abort()

    async def close(self, code: int, reason: str) -> None:
        """Say why and go."""
        with self._patience(2 * limits.LINGER_S):  # to be told, and to answer
            await self.ws.close(code=code, message=reason.encode())

    @contextmanager
    def _patience(self, seconds: float) -> Iterator[None]:
        """Who takes nothing for so long is cut off: closing would wait until what is unsent is taken, for ever."""
        # Nothing is cancelled: aiohttp cancels whoever else waits for the same connection, too.
        transport = self.request.transport
        cutting = asyncio.get_running_loop().call_later(seconds, transport.abort) if transport else None
        try:
            yield
        finally:
            if cutting:
                cutting.cancel()
