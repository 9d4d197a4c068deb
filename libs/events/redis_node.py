"""One server, and whether it is away."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from libs.events.errors import LogUnavailable
from libs.events.redis_client import Pipe, Readers, connect, learn_run

Commands = list[list[Any]] | Callable[[str], list[list[Any]]]

# Between two looks whether a node is back that refuses connections; one that is silent is given the time it takes.
LOOK_EVERY_S = 0.2


class Node:
    """A connection for writes, and some for questions that may wait for their answer.

    `send` and `ask` are for one node of several: a silent one must not hold up every call that asks all of them.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._writer, self._reader = connect(url, on_connect=learn_run), connect(url)
        self.readers = Readers(self._reader)
        self.pipe = Pipe(self._writer, self.readers)
        self._coming_back: asyncio.Task[None] | None = None
        self.serves = True
        """Whether it has anything of ours. One that left a cluster may never be back, or its address another's."""

    async def close(self) -> None:
        if self._coming_back:
            self._coming_back.cancel()
            await asyncio.wait([self._coming_back])
        await self._writer.aclose()
        await self._reader.aclose()

    async def send(self, commands: Commands) -> list[Any]:
        """See `Pipe.send`. After a failure nothing is sent until the node is back: that is found out beside."""
        self._check_there()
        try:
            return await self.pipe.send(commands)
        except LogUnavailable:
            self._is_away()
            raise

    async def ask(self, *command: Any, raw: bool = False) -> Any:
        """See `Readers.ask`, and `send`."""
        self._check_there()
        try:
            return await self.readers.ask(*command, raw=raw)
        except LogUnavailable as error:
            if error.__cause__:  # no answer; a refusal has no other error behind it
                self._is_away()
            raise

    def _is_away(self) -> None:
        if self._is_there():
            self._coming_back = asyncio.create_task(self._come_back())

    def _is_there(self) -> bool:
        return self._coming_back is None or self._coming_back.done()

    def _check_there(self) -> None:
        if not self._is_there():
            raise LogUnavailable("a node of the cluster is away")

    async def _come_back(self) -> None:
        while self.serves:
            with suppress(LogUnavailable):
                await self.pipe.send([["PING"]])
                return
            await asyncio.sleep(LOOK_EVERY_S)
