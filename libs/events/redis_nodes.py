"""The Redis behind a URL: one server, or the masters of a cluster; the server itself says which.

A cluster is spoken to node by node, each over connections of its own, and a node that is away holds up none but its
own partitions. All keys of a partition are in one slot (`redis_keys`), so every command goes to one node whole. Which
node has which slot is asked again when a node says so or is away; what was asked of it then was not done, and comes
again like everything Redis did not do.
"""

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

import structlog
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from libs.events.errors import EventLogError, LogUnavailable, OutcomeUnknown
from libs.events.redis_client import translate
from libs.events.redis_node import Commands, Node

# However many commands find that a node is away, the others are not asked for the table more often than that.
REFRESH_EVERY_S = 0.2
# Error replies of a node that has the slot no longer, or not yet, or is not a part of a whole cluster.
MOVING = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
# Where a command has its first key; 1 for those not named here, None: it has none.
KEY_AT: dict[str, int | None] = {
    **dict.fromkeys(("EVAL", "EVALSHA", "SCAN"), 3),  # SCAN: the pattern, which begins with the hash tag
    **dict.fromkeys(("XGROUP", "XINFO"), 2),
    **dict.fromkeys(("TIME", "INFO", "CONFIG", "SCRIPT", "FLUSHALL", "FLUSHDB", "CLIENT")),
}
_say = structlog.get_logger()


class Nodes:
    """Commands in, replies out, wherever the keys are. On one server it is the server's `Pipe` and `Readers`."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._first = Node(url)
        self._only: Node | None = None
        self._table: list[Node | None] = []
        # Also those without slots, for ever: questions to them may be under way, and they may get slots again.
        self._known: dict[str, Node] = {}
        self._finding_out = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at = 0.0
        self._turn = 0

    async def close(self) -> None:
        if self._refreshing:
            self._refreshing.cancel()
        for node in (self._first, *self._known.values()):
            await node.close()

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
        told = await asyncio.gather(*(self._share(one, commands, whole) for one in self._nodes()))
        if all(isinstance(replies[0], LogUnavailable) for replies in told):
            raise told[0][0]
        return told

    async def ask(self, *command: Any, raw: bool = False) -> Any:
        """See `Readers.ask`. A command without a key is answered by any node."""
        only = self._only or await self._found_out()
        if only:
            return await only.readers.ask(*command, raw=raw)
        key = key_of(command)
        *others, last = self._nodes() if key is None else [self._node_of(key)]
        for node in others:
            with suppress(LogUnavailable):
                return await node.ask(*command, raw=raw)
        try:
            return await last.ask(*command, raw=raw)
        except LogUnavailable:
            self._refresh_soon()
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
        return self._table[key_slot(key.encode())] if self._table else None

    async def lots(self, keys: Sequence[str]) -> list[Sequence[str]]:
        """Keys of several partitions, by which of them one command may name: a cluster refuses those of two slots."""
        return [keys] if self._only or await self._found_out() else [[key] for key in keys]

    async def _found_out(self) -> Node | None:
        """The only node; None: it is a cluster.

        Raises:
            LogUnavailable
        """
        if not self._table:
            in_cluster = await self._first.pipe.in_cluster()
            async with self._finding_out:
                if not self._table and not self._only:
                    if in_cluster:
                        await self._refresh()
                    else:
                        self._only = self._first
        return self._only

    def _nodes(self) -> list[Node]:
        """Those that have slots."""
        return [node for node in dict.fromkeys(self._table) if node]

    def _node_of(self, key: str) -> Node:
        node = self.place_of(key)
        if node is None:
            self._refresh_soon()
            raise LogUnavailable(f"no node of the cluster serves slot {key_slot(key.encode())}")
        return node

    async def _send_apart(self, commands: Commands) -> list[Any]:
        every = commands("") if callable(commands) else commands
        shares: dict[Node, list[int]] = {}
        replies: list[Any] = [LogUnavailable("no node of the cluster was asked")] * len(every)
        for index, command in enumerate(every):
            key = key_of(command)
            try:
                for node in self._nodes() if key is None else [self._node_of(key)]:
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
            self._refresh_soon()
            return [error] * len(share)
        if any(isinstance(reply, Exception) and str(reply).startswith(MOVING) for reply in replies):
            self._refresh_soon()
        return [translate(reply) if _is_refusal_of_all(reply) else reply for reply in replies]

    def _refresh_soon(self) -> None:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh_when_due())

    async def _refresh_when_due(self) -> None:
        due_s = self._refreshed_at + REFRESH_EVERY_S * random.uniform(1, 2) - time.monotonic()  # noqa: S311 - jitter
        await asyncio.sleep(max(0, due_s))
        with suppress(LogUnavailable):
            await self._refresh()

    async def _refresh(self) -> None:
        """Ask for the table, each time another node first: one that is cut off from the others may hold an old one."""
        self._turn, nodes = self._turn + 1, self._nodes()
        turn = self._turn % max(1, len(nodes))
        for node in (*nodes[turn:], *nodes[:turn], self._first):
            try:
                (said,) = await node.send([["CLUSTER", "SLOTS"]])
            except LogUnavailable:
                continue
            if isinstance(said, list) and said:
                self._take(said, node)
                break
        else:
            if not self._table:
                raise LogUnavailable("no node of the cluster says where its slots are")
        self._refreshed_at = time.monotonic()

    def _take(self, said: Iterable[Any], told_by: Node) -> None:
        table: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_replicas in said:
            # A node that does not know its own address is where it was asked.
            url = url_of_node(self._url, host or urlsplit(told_by.url).hostname or "", port)
            if url not in self._known:
                self._known[url] = Node(url)
            table[first : last + 1] = [self._known[url]] * (last - first + 1)
        serving = {node for node in table if node}
        if self._table and table != self._table:
            _say.warning("cluster_slots_moved", nodes=len(serving))
        self._table = table
        for node in self._known.values():
            node.serves = node in serving


def key_of(command: Sequence[Any]) -> str | None:
    """The first key a command names."""
    name = command[0]
    if name in {"XREAD", "XREADGROUP"}:
        return str(command[command.index("STREAMS") + 1])
    at = KEY_AT.get(name, 1)
    return None if at is None else str(command[at])


def url_of_node(url: SplitResult, host: str, port: int) -> str:
    """How to reach a node: with the user, password and options that `url` has."""
    who, at, _ = url.netloc.rpartition("@")
    scheme = "redis" if url.scheme == "unix" else url.scheme
    path = "" if url.scheme == "unix" else url.path
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return url._replace(scheme=scheme, netloc=f"{who}{at}{where}", path=path).geturl()


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
