"""Postgres behind a pooler: one of sessions serves, one of transactions is refused in words."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from deploy.local.ports import Claims
from libs.orders.locks import Lock, Seat
from libs.orders.migrate import migrate
from libs.orders.store import OrderStore, StoreUnavailable, open_store
from services.gateway.accounts import Accounts, open_database
from tests.contract.projector_rig import StartedMemoryLog, assert_postgres_is_the_fold_of, caught_up, standing_by
from tests.journeys import journey
from tests.waiting import eventually


@asynccontextmanager
async def pooler(folder: Path, database_url: str, mode: str, connections: int = 20) -> AsyncIterator[str]:
    """The address of a pgbouncer, as it comes: with nothing set for our sake."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("no pgbouncer on this machine")
    with Claims() as claimed:
        port = claimed.free("127.0.0.1")
        config = await asyncio.to_thread(_configured, folder, database_url, port, mode, connections)
        as_nobody = ("-u", "nobody") if os.getuid() == 0 else ()
        process = await asyncio.create_subprocess_exec(program, *as_nobody, config, stderr=asyncio.subprocess.DEVNULL)
        through = urlsplit(database_url)
        url = f"postgresql://{through.username or 'postgres'}:x@127.0.0.1:{port}{through.path}"
        try:
            await eventually(lambda: _answers(url), what="pgbouncer listens")
            yield url
        finally:
            process.terminate()
            await process.wait()


def _configured(folder: Path, database_url: str, port: int, mode: str, connections: int) -> str:
    url = urlsplit(database_url)
    options = parse_qs(url.query)
    host = options.get("host", [url.hostname or "127.0.0.1"])[0]
    behind = {
        "host": host,
        "port": url.port or options.get("port", ["5432"])[0],
        "dbname": url.path.strip("/"),
        "user": url.username or "postgres",
        "password": url.password,
    }
    told = " ".join(f"{name}={value}" for name, value in behind.items() if value)
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": mode,
        "default_pool_size": connections,
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    config = folder / "pgbouncer.ini"
    config.write_text("\n".join(["[databases]", f"{behind['dbname']} = {told}", "[pgbouncer]", *lines, ""]))
    folder.chmod(0o755)
    return str(config)


async def _answers(url: str) -> bool:
    try:
        await (await asyncpg.connect(url, statement_cache_size=0)).close()
    except OSError:
        return False
    return True


async def test_a_pooler_of_sessions_serves_as_it_comes(tmp_path: Path, database_url: str) -> None:
    log = StartedMemoryLog()
    async with pooler(tmp_path, database_url, "session") as url, open_store(url) as store:
        await migrate(url)
        async with standing_by(log, store), standing_by(log, store):
            await journey(log, "user-1")
            await eventually(lambda: caught_up(log, store))
        await assert_postgres_is_the_fold_of(log, store)
        async with open_database(url) as accounts:
            assert await Accounts(accounts).find("nobody@example.com") is None


async def test_who_gave_up_waiting_for_a_pooler_does_not_take_a_connection_for_ever(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        pooler(tmp_path, database_url, "session", connections=1) as url,
        open_store(url) as served,
        open_store(url) as waits,
    ):
        async with served.connection() as only:
            with monkeypatch.context() as hasty:
                hasty.setattr("libs.orders.connection.CONNECT_TIMEOUT_S", 0.3)
                with pytest.raises(StoreUnavailable):
                    await waits.checkpoints()
            only.terminate()
        assert await eventually(lambda: _serves(waits), within_s=20, what="whoever asks is served again")


async def _serves(store: OrderStore) -> bool:
    try:
        await store.checkpoints()
    except StoreUnavailable:
        return False
    return True


async def test_a_pooler_of_transactions_is_refused(tmp_path: Path, database_url: str) -> None:
    async with (
        pooler(tmp_path, database_url, "transaction") as url,
        open_store(url) as store,
        aclosing(Seat(store, Lock.PROJECTING)) as seat,
    ):
        with pytest.raises(StoreUnavailable, match="pool_mode = session"):
            await seat.take()


class OneForAll:
    """A connection that serves two of us in turn, as a pooler gives it: with a key that is its own."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.fetchval, self.transaction = connection.fetchval, connection.transaction

    def get_server_pid(self) -> int:
        return 0

    def is_closed(self) -> bool:
        return False


class Pooled:
    """A store behind a pooler of transactions that gives whoever asks the connection used last."""

    def __init__(self, connection: asyncpg.Connection, busy: Sequence[asyncpg.Connection] = ()) -> None:
        """`busy`: what is given instead, one after another, while somebody else is served by the one used last."""
        self._connection, self._busy, self._ours = connection, list(busy), False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        first, self._ours = not self._ours, True
        yield OneForAll(self._connection if first or not self._busy else self._busy.pop())


async def test_a_place_is_not_taken_where_another_may_be_served_between(direct: asyncpg.Connection) -> None:
    seat = Seat(cast("OrderStore", Pooled(direct)), Lock.PROJECTING)
    with pytest.raises(StoreUnavailable, match="pool_mode = session"):
        await seat.take()
    assert await direct.fetchval("SELECT count(*) FROM pg_locks WHERE objid::bigint = $1", Lock.PROJECTING.value) == 0


async def test_nor_where_others_are_served_by_it_just_then(direct: asyncpg.Connection, database_url: str) -> None:
    second = await asyncpg.connect(database_url)
    seat = Seat(cast("OrderStore", Pooled(direct, busy=[second, second])), Lock.PROJECTING)
    with pytest.raises(StoreUnavailable, match="pool_mode = session"):
        await seat.take()
    await second.close()
