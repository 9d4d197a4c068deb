"""A COMMIT whose reply is lost is unknown: the checkpoint knows, and nothing is lost or doubled either way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import pytest

from libs.events.ids import START
from libs.events.log import Entry
from libs.events.memory_log import MemoryLog
from libs.orders.batch import Batch
from libs.orders.store import StoreUnavailable, open_store
from tests.builders import a_request, routing_started, then
from tests.waiting import eventually

PARTITIONS = 1
CHUNK_BYTES = 65_536


class CommitTrap:
    """A connection to Postgres that breaks at COMMIT, on the way there or on the way back."""

    def __init__(self, database_url: str, *, lost: str) -> None:
        self._target = urlsplit(database_url)
        self._lost = lost
        self.armed = True
        self._open = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        who = self._target.netloc.rpartition("@")[0] or "postgres"
        try:
            yield f"postgresql://{who}@127.0.0.1:{port}{self._target.path}?sslmode=disable"
        finally:
            server.close()
            await eventually(lambda: self._open == 0, what="every connection through the trap is closed")

    async def _upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        folder = parse_qs(self._target.query).get("host", [""])[0]
        port = self._target.port or 5432
        if folder:
            return await asyncio.open_unix_connection(f"{unquote(folder)}/.s.PGSQL.{port}")
        return await asyncio.open_connection(self._target.hostname, port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        up_reader, up_writer = await self._upstream()
        back = asyncio.create_task(_copy(up_reader, writer))
        try:
            while data := await reader.read(CHUNK_BYTES):
                if self.armed and b"COMMIT" in data:
                    self.armed = False
                    await _ended(back)
                    if self._lost == "reply":
                        up_writer.write(data)
                        await up_reader.read(CHUNK_BYTES)  # Postgres has answered: it is in
                    break
                up_writer.write(data)
        finally:
            await _ended(back)
            for end in (writer, up_writer):
                end.close()
                await asyncio.gather(end.wait_closed(), return_exceptions=True)
            self._open -= 1


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
    writer.close()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def entries() -> list[Entry]:
    log = MemoryLog(PARTITIONS)
    step, snapshot = a_request(PARTITIONS)
    await log.commit(step)
    for attempt in (1, 2, 3):
        step, snapshot = then(snapshot, routing_started(attempt))
        await log.commit(step)
    return await log.read({0: START}, 100, 0)


@pytest.mark.parametrize(("lost", "went_in"), [("reply", True), ("request", False)])
async def test_after_a_broken_commit_the_checkpoint_decides(
    database_url: str, direct: asyncpg.Connection, lost: str, went_in: bool
) -> None:
    written = await entries()
    trap = CommitTrap(database_url, lost=lost)
    trap.armed = False
    async with trap.listening() as url, open_store(url) as store:
        projection = store.projection()
        start = await projection.resume("e", PARTITIONS)
        trap.armed = True
        with pytest.raises(StoreUnavailable):
            await projection.apply("e", Batch(start, written[:2]))
        await eventually(lambda: not trap.armed, what="the connection broke at COMMIT")
        at = await projection.resume("e", PARTITIONS)
        assert at == ({0: written[1].at} if went_in else start)
        await projection.apply("e", Batch(at, written[2:] if went_in else written))
        assert await store.archived(0, 0, 100) == written


async def test_resuming_waits_for_a_commit_still_under_way(database_url: str, direct: asyncpg.Connection) -> None:
    async with open_store(database_url) as store:
        projection = store.projection()
        await projection.resume("e", PARTITIONS)
        async with direct.transaction():
            await direct.execute("UPDATE checkpoints SET ms = 5, position = 7")
            resuming = asyncio.create_task(projection.resume("e", PARTITIONS))
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            await eventually(lambda: direct.fetchval(waiting), what="it waits for the checkpoint's row")
        assert (await resuming)[0].position == 7
