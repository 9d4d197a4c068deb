"""A connection to Redis that is spoken to directly: bytes out, replies in their order back.

redis-py makes it, with everything that belongs to that (addresses, TLS, passwords). Its own way of asking takes five
coroutines and a pool for every reply, four times what the rest of a commit costs; what comes here is parsed in C and
handed to whoever waits, several questions deep.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from hiredis import ProtocolError, Reader, pack_command
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from libs.events.errors import OutcomeUnknown


def _error(readonly: list[str], text: str) -> ResponseError:
    if text.startswith("READONLY"):
        readonly.append(text)
        return ReadOnlyError(text)
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)


@dataclass(eq=False, slots=True)
class _Question:
    """`missing` replies of it are still to come."""

    missing: int
    raw: bool
    done: "asyncio.Future[list[Any]]"
    replies: list[Any] = field(default_factory=list)


class Wire(asyncio.Protocol):
    """Takes over a connection that redis-py has just made. `run`: the run of Redis it leads to."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.run: str = getattr(connection, "swaplog_run", "")
        self.in_cluster: bool = getattr(connection, "swaplog_in_cluster", False)
        self._transport = cast("asyncio.Transport", connection._writer.transport)
        self._before = self._transport.get_protocol()
        self._readonly: list[str] = []
        self._parser = Reader(encoding="utf-8", errors="replace", replyError=partial(_error, self._readonly))
        self._questions: deque[_Question] = deque()
        self._loop = asyncio.get_running_loop()
        self.lost = False
        self._transport.set_protocol(self)

    @property
    def quiet(self) -> bool:
        """Nobody waits for a reply."""
        return not self._questions

    async def ask(self, commands: list[list[Any]], *, within_s: float, raw: bool = False) -> list[Any]:
        """A reply for each command; an error reply is an exception in the list. `raw`: texts stay bytes.

        Raises:
            OutcomeUnknown: the connection ended, or stayed silent for too long, after they were sent.
        """
        packed = b"".join([pack_command(tuple(command)) for command in commands])
        try:
            self._transport.write(packed)
        except (OSError, RuntimeError) as error:
            # Of a connection that was reset since, uvloop says so with a bare RuntimeError.
            self.end(str(error))
            raise OutcomeUnknown(str(error)) from error
        question = _Question(len(commands), raw, self._loop.create_future())
        self._questions.append(question)
        # Later questions would wait behind the one that is not answered: the connection ends for all of them.
        silence = self._loop.call_later(within_s, self.end, f"no reply within {within_s:g} s")
        try:
            replies = await question.done
        finally:
            silence.cancel()
        if self._readonly:
            # It was made a replica: its name may lead to another by now, and this connection never would.
            self.end("Redis is a replica now")
        return replies

    def end(self, why: str = "closed") -> None:
        """Give the connection up; what was asked and not answered stays unknown."""
        self._fail(why)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        while self._questions:
            question = self._questions[0]
            try:
                reply = self._parser.gets(not question.raw)
            except ProtocolError as error:
                self.end(str(error))
                return
            if reply is False:
                return
            question.replies.append(reply)
            question.missing -= 1
            if not question.missing:
                self._questions.popleft()
                if not question.done.done():
                    question.done.set_result(question.replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc) if exc else "Redis closed the connection")
        # redis-py waits for its own protocol to hear of the end.
        self._before.connection_lost(exc)

    def _fail(self, why: str) -> None:
        self.lost = True
        while self._questions:
            question = self._questions.popleft()
            if not question.done.done():
                question.done.set_exception(OutcomeUnknown(why))
