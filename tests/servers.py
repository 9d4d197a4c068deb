"""Real servers for the tests, by the same ladder as `make run` and one rung more: containers.

A machine without any of them fails the tests; it never skips them. A server given by URL must be empty, because the
tests flush it.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
from redis.asyncio import Redis

from deploy.local.folders import Folders, Held, locked, make_folders, remove_runtime
from deploy.local.plan import NoRung
from deploy.local.stores import Store, postgres_store, redis_store

TEMPORARY = Path("/tmp")  # short, for the sockets' sake
PREFIX = "swaplog-test-"
LEFT_OVER_AFTER_S = 3_600
REDIS_IMAGE, POSTGRES_IMAGE = "redis:7", "postgres:16"

T = TypeVar("T")
Opener = Callable[..., AbstractAsyncContextManager[Store]]


@contextmanager
def throw_away_folders(*, lock: bool = True) -> Iterator[Folders]:
    """Data and runtime folders that are gone afterwards, and those of killed runs with them.

    Without `lock` a Stack may use them, which takes the lock itself.
    """
    _sweep()
    data = Path(tempfile.mkdtemp(prefix=PREFIX, dir=TEMPORARY))
    data.chmod(0o711)  # Postgres may run as somebody else
    folders = make_folders(data)
    try:
        with locked(folders.lock) if lock else nullcontext():
            yield folders
    finally:
        _remove(data)


@contextmanager
def redis_server() -> Iterator[Store]:
    """An empty Redis or Valkey while the block runs."""
    with _server(redis_store, _redis_container) as store:
        keys = run(_flush(store.url, only_if_ours=store.rung != "url"))
        assert keys == 0, (
            f"REDIS_URL names a Redis that holds {keys} keys, and the tests would flush it: empty it first"
        )
        yield store


@contextmanager
def postgres_server() -> Iterator[Store]:
    """A Postgres whose user may create databases, while the block runs."""
    with _server(postgres_store, _postgres_container) as store:
        yield store


@contextmanager
def migrated_template(server_url: str) -> Iterator[str]:
    """The name of a migrated database that nobody uses, to make others from."""
    from libs.orders.migrate import migrate  # noqa: PLC0415 - not needed by tests without Postgres

    with _database(server_url, f"swaplog_template_{token_hex(4)}") as (name, url):
        run(migrate(url))
        yield name


@contextmanager
def fresh_database(server_url: str, template: str) -> Iterator[str]:
    """The URL of a migrated, empty database while the block runs."""
    with _database(server_url, f"swaplog_test_{token_hex(4)}", template) as (_, url):
        yield url


def flush_redis(url: str) -> None:
    """Make it empty."""
    run(_flush(url, only_if_ours=True))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a loop of its own; the tests' loop stays untouched."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


@contextmanager
def _server(opener: Opener, container: Opener) -> Iterator[Store]:
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()
    with throw_away_folders() as folders:
        try:
            try:
                store = loop.run_until_complete(stack.enter_async_context(opener(os.environ, folders, durable=False)))
            except NoRung as nothing_local:
                store = loop.run_until_complete(stack.enter_async_context(container(str(nothing_local))))
            yield store
        finally:
            loop.run_until_complete(stack.aclose())
            loop.close()


@asynccontextmanager
async def _redis_container(nothing_local: str) -> AsyncIterator[Store]:
    from testcontainers.community.redis import RedisContainer  # noqa: PLC0415 - the last rung only

    with _engine(nothing_local), RedisContainer(REDIS_IMAGE) as container:
        url = f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
        yield Store(url, "docker", REDIS_IMAGE, None)


@asynccontextmanager
async def _postgres_container(nothing_local: str) -> AsyncIterator[Store]:
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - the last rung only

    with _engine(nothing_local), PostgresContainer(POSTGRES_IMAGE, driver=None) as container:
        yield Store(container.get_connection_url(), "docker", POSTGRES_IMAGE, None)


@contextmanager
def _engine(nothing_local: str) -> Iterator[None]:
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415 - the last rung only
    from docker.errors import DockerException  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        raise NoRung(f"{nothing_local}; and no container engine answers: {error}") from None
    client.close()
    yield


async def _flush(url: str, *, only_if_ours: bool) -> int:
    """Empty it if it may be emptied; gives the number of keys it holds then."""
    async with Redis.from_url(url) as client:
        if only_if_ours:
            await client.flushall()
        return int(await client.dbsize())


@contextmanager
def _database(server_url: str, name: str, template: str = "template0") -> Iterator[tuple[str, str]]:
    run(_execute(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    try:
        yield name, urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        run(_execute(server_url, f'DROP DATABASE "{name}" WITH (FORCE)'))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _sweep() -> None:
    """Remove what killed test runs left."""
    for data in TEMPORARY.glob(f"{PREFIX}*"):
        try:
            seen = data.stat()
        except FileNotFoundError:  # of tests beside these, which are done
            continue
        if seen.st_uid != os.getuid() or seen.st_mtime > time.time() - LEFT_OVER_AFTER_S:
            continue
        try:
            with locked(data / "lock"):
                pass
        except (Held, OSError):
            continue
        _remove(data)


def _remove(data: Path) -> None:
    remove_runtime(make_folders(data))
    shutil.rmtree(data, ignore_errors=True)
