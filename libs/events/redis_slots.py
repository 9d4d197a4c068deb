"""Which node of a cluster has which slot: asked again when a node says that it moved, or is away."""

import asyncio
import random
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

import structlog
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from libs.events.errors import LogUnavailable
from libs.events.redis_node import Node

# However many commands find that a node is away, the others are not asked for the table more often than that.
REFRESH_EVERY_S = 0.2
_say = structlog.get_logger()


class Slots:
    """The table of a cluster, and its nodes."""

    def __init__(self, first: Node) -> None:
        """`first`: the node that the URL names; it is asked when no other answers."""
        self._first, self._url = first, urlsplit(first.url)
        self._table: list[Node | None] = []
        # Also those without slots, for ever: questions to them may be under way, and they may get slots again.
        self._known: dict[str, Node] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at = 0.0
        self._turn = 0

    async def close(self) -> None:
        if self._refreshing:
            self._refreshing.cancel()
        for node in self._known.values():
            await node.close()

    @property
    def known(self) -> bool:
        """Whether there is a table."""
        return bool(self._table)

    def nodes(self) -> list[Node]:
        """Those that have slots."""
        return [node for node in dict.fromkeys(self._table) if node]

    def find(self, key: str) -> Node | None:
        """The node that has the key; None where that is not known."""
        return self._table[key_slot(key.encode())] if self._table else None

    def node_of(self, key: str) -> Node:
        """The node that has the key.

        Raises:
            LogUnavailable: no node has its slot.
        """
        node = self.find(key)
        if node is None:
            self.refresh_soon()
            raise LogUnavailable(f"no node of the cluster serves slot {key_slot(key.encode())}")
        return node

    def refresh_soon(self) -> None:
        """Ask for the table again, beside whatever else is done."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh_when_due())

    async def _refresh_when_due(self) -> None:
        due_s = self._refreshed_at + REFRESH_EVERY_S * random.uniform(1, 2) - time.monotonic()  # noqa: S311 - jitter
        await asyncio.sleep(max(0, due_s))  # not more often, however often it is wanted
        with suppress(LogUnavailable):
            await self.refresh()

    async def refresh(self) -> None:
        """Ask for the table, each time another node first: one that is cut off from the others may hold an old one.

        Raises:
            LogUnavailable: no node answers, and there is no table yet.
        """
        self._turn, nodes = self._turn + 1, self.nodes()
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


def url_of_node(url: SplitResult, host: str, port: int) -> str:
    """How to reach a node: with the user, password and options that `url` has."""
    who, at, _ = url.netloc.rpartition("@")
    scheme = "redis" if url.scheme == "unix" else url.scheme
    path = "" if url.scheme == "unix" else url.path
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return url._replace(scheme=scheme, netloc=f"{who}{at}{where}", path=path).geturl()
