"""The Redis behind a URL: one server, or the masters of a cluster; the server itself says which.

Each node of a cluster has connections of its own, so one that is away holds up its own partitions only. All keys of a
partition are in one slot (`redis_keys`), so every command goes to one node. A command that a node refuses because the
slot has moved was not done: the caller tries again, as after any other failure.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from libs.events.errors import EventLogError, LogUnavailable, OutcomeUnknown
from libs.events.redis_client import translate
from libs.events.redis_node import Commands, Node
from libs.events.redis_slots import Slots

# Error replies of a node that has the slot no longer, or not yet, or is not a part of a whole cluster.
MOVING = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
# Where a command has its first key; 1 for those not named here, None: it has none.
KEY_AT: dict[str, int | None] = {
    **dict.fromkeys(("EVAL", "EVALSHA", "SCAN"), 3),  # SCAN: the pattern, which begins with the hash tag
    **dict.fromkeys(("XGROUP", "XINFO"), 2),
    **dict.fromkeys(("TIME", "INFO", "CONFIG", "SCRIPT", "FLUSHALL", "FLUSHDB", "CLIENT")),
}


class Nodes:
    """Commands in, replies out, wherever the keys are. On one server it is the server's `Pipe` and `Readers`."""

    def __init__(self, url: str) -> None:
        self._first = Node(url)
        self._slots = Slots(self._first)
        self._only: Node | None = None
        self._finding_out = asyncio.Lock()

    async def close(self) -> None:
        await self._slots.close()
        await self._first.close()

    async def send(self, commands: Commands) -> list[Any]:
        """See `Pipe.send`. A command without a key goes to every node, and the first answer counts.

        Where some nodes answer and others do not, the errors of those are in the list.
        """
        node = self._only or await self._found_out()
        return await (node.pipe.send(commands) if node else self._send_apart(commands))

    async def everywhere(self, commands: list[list[Any]]) -> list[list[Any]]:
        """The replies of each node; the error of one that is away stands in place of each of its replies.

        Raises:
            LogUnavailable: all are away.
        """
        node = self._only or await self._found_out()
        if node:
            return [await node.pipe.send(commands)]
        whole = range(len(commands))
        told = await asyncio.gather(*(self._share(one, commands, whole) for one in self._slots.nodes()))
        if all(isinstance(replies[0], LogUnavailable) for replies in told):
            raise told[0][0]
        return told

    async def ask(self, *command: Any, raw: bool = False) -> Any:
        """See `Readers.ask`. A command without a key is answered by any node."""
        only = self._only or await self._found_out()
        if only:
            return await only.readers.ask(*command, raw=raw)
        key = key_of(command)
        *others, last = self._slots.nodes() if key is None else [self._slots.node_of(key)]
        for node in others:
            with suppress(LogUnavailable):
                return await node.ask(*command, raw=raw)
        try:
            return await last.ask(*command, raw=raw)
        except LogUnavailable:
            self._slots.refresh_soon()
            raise

    async def check_primary(self) -> None:
        """See `Pipe.check_primary`. Which nodes of a cluster are primaries its table says."""
        if self._only:
            await self._only.pipe.check_primary()

    def run_of(self, key: str) -> str:
        """The run of the Redis that holds the key, as of when it was last sent to."""
        place = self._only or self.place_of(key)
        return place.pipe.run if place else ""

    def place_of(self, key: str) -> Node | None:
        """Where the key is; the same for all on one server."""
        return self._slots.find(key)

    async def lots(self, keys: Sequence[str]) -> list[Sequence[str]]:
        """Keys of several partitions, by which of them one command may name: a cluster refuses those of two slots."""
        return [keys] if self._only or await self._found_out() else [[key] for key in keys]

    async def _found_out(self) -> Node | None:
        """The only node; None: it is a cluster.

        Raises:
            LogUnavailable
        """
        if not self._slots.known:
            in_cluster = await self._first.pipe.in_cluster()
            async with self._finding_out:
                if not self._slots.known and not self._only:
                    if in_cluster:
                        await self._slots.refresh()
                    else:
                        self._only = self._first
        return self._only

    async def _send_apart(self, commands: Commands) -> list[Any]:
        every = commands("") if callable(commands) else commands
        shares: dict[Node, list[int]] = {}
        replies: list[Any] = [LogUnavailable("no node of the cluster was asked")] * len(every)
        for index, command in enumerate(every):
            key = key_of(command)
            try:
                for node in self._slots.nodes() if key is None else [self._slots.node_of(key)]:
                    shares.setdefault(node, []).append(index)
            except LogUnavailable as error:
                replies[index] = error
        answers = await asyncio.gather(*(self._share(node, commands, share) for node, share in shares.items()))
        for share, answer in zip(shares.values(), answers, strict=True):
            for index, reply in zip(share, answer, strict=True):
                if isinstance(replies[index], Exception):
                    replies[index] = reply
        away = [reply for reply in replies if isinstance(reply, LogUnavailable)]
        if away and len(away) == len(replies):
            raise next((error for error in away if isinstance(error, OutcomeUnknown)), away[0])
        return replies

    async def _share(self, node: Node, commands: Commands, share: Sequence[int]) -> list[Any]:
        """What this node says to its share of the commands; see `everywhere` for one that is away."""

        def mine(every: list[list[Any]]) -> list[list[Any]]:
            return [every[index] for index in share]

        try:
            replies = await node.send((lambda run: mine(commands(run))) if callable(commands) else mine(commands))
        except LogUnavailable as error:
            self._slots.refresh_soon()
            return [error] * len(share)
        if any(isinstance(reply, Exception) and str(reply).startswith(MOVING) for reply in replies):
            self._slots.refresh_soon()
        return [translate(reply) if _is_refusal_of_all(reply) else reply for reply in replies]


def key_of(command: Sequence[Any]) -> str | None:
    """The first key a command names."""
    name = command[0]
    if name in {"XREAD", "XREADGROUP"}:
        return str(command[command.index("STREAMS") + 1])
    at = KEY_AT.get(name, 1)
    return None if at is None else str(command[at])


async def ask(redis: Nodes, commands: Commands) -> list[Any]:
    """All replies; nothing is sent for an empty list.

    Raises:
        LogUnavailable: the first error among them, or no node answers.
    """
    replies = await redis.send(commands) if commands else []
    for reply in replies:
        if isinstance(reply, Exception):
            raise translate(reply)
    return replies


def answered(replies: Sequence[Any]) -> list[Any]:
    """The replies of nodes that answered, None for those of the others. At least one did: see `Nodes.send`.

    Raises:
        LogUnavailable: an error of the command itself.
    """
    for reply in replies:
        if isinstance(reply, Exception) and not isinstance(reply, EventLogError):
            raise translate(reply)
    return [None if isinstance(reply, Exception) else reply for reply in replies]


def _is_refusal_of_all(reply: Any) -> bool:
    """Whether a node that is coming up, or lost its slot, refuses everything alike."""
    return isinstance(reply, Exception) and str(reply).startswith((*MOVING, "LOADING"))
