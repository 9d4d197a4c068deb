"""A node that left a cluster for good: tomorrow its address may be somebody else's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.crc import REDIS_CLUSTER_HASH_SLOTS

from libs.events.errors import LogUnavailable
from libs.events.redis_node import LOOK_EVERY_S
from libs.events.redis_nodes import Nodes
from tests.waiting import eventually

ALL = (0, REDIS_CLUSTER_HASH_SLOTS - 1)


@asynccontextmanager
async def a_port_that_hangs_up() -> AsyncIterator[tuple[int, list[None]]]:
    """A port, and one more in the list for each who came there."""
    came: list[None] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(None)
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], came


async def test_a_node_without_slots_is_not_looked_for_any_more() -> None:
    nodes = Nodes("redis://127.0.0.1:1/0")
    async with a_port_that_hangs_up() as (left, came), a_port_that_hangs_up() as (new, _):
        try:
            nodes._slots._take([[*ALL, ["127.0.0.1", left]]], nodes._first)
            for _ in range(2):
                with pytest.raises(LogUnavailable):
                    await nodes.send([["GET", "key"]])
            await eventually(lambda: len(came) > 2, what="it is looked whether it is back")
            nodes._slots._take([[*ALL, ["127.0.0.1", new]]], nodes._first)
            await asyncio.sleep(3 * LOOK_EVERY_S)  # a look that has begun may still come
            before = len(came)
            await asyncio.sleep(5 * LOOK_EVERY_S)  # that nobody comes only time can show
            assert len(came) == before
        finally:
            await nodes.close()
