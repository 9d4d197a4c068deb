"""What keeps a stack from starting, and what it says then: never nothing, and never a traceback."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from deploy.local.folders import make_folders
from deploy.local.forget import forget
from deploy.local.keys import load_or_make_keys
from deploy.local.roster import Ports
from deploy.local.stack import Stack
from deploy.local.stores import postgres_store
from libs.service.settings import ConfigurationError
from tests.fault.test_supervisor import PORTS, stack, standin
from tests.servers import throw_away_folders
from tests.waiting import eventually


@pytest.fixture
def data() -> Iterator[Path]:
    with throw_away_folders(lock=False) as folders:
        yield folders.data


def run(data: Path, **env: str) -> tuple[int, str, str]:
    """`python -m deploy.local` as people start it, to its end: exit code, stdout, stderr."""
    environ = {name: value for name, value in os.environ.items() if name != "SWAPLOG_STORES"}
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.local"],
        env={**environ, **PORTS, "DATA_DIR": str(data), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate()
        finally:
            process.kill()
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("variable", "url", "line"),
    [
        (
            "REDIS_URL",
            "redis://:hush@127.0.0.1:1/0",
            "swaplog: REDIS_URL: cannot use redis://:***@127.0.0.1:1/0: Connection refused\n",
        ),
        (
            "DATABASE_URL",
            "postgresql://me:hush@127.0.0.1:1/x",
            "swaplog: DATABASE_URL: cannot use postgresql://me:***@127.0.0.1:1/x: Connection refused\n",
        ),
        (
            "REDIS_URL",
            "redis://127.0.0.1:1/0?timeout=1",
            "swaplog: REDIS_URL: cannot use redis://127.0.0.1:1/0?timeout=1: ",
        ),
        ("REDIS_URL", "redis://127.0.0.1:1/0?db=x", "swaplog: REDIS_URL: cannot use redis://127.0.0.1:1/0?db=x: "),
        ("REDIS_URL", "redis://:pr@hush@127.0.0.1:1", "swaplog: REDIS_URL: cannot use redis://:***@127.0.0.1:1: "),
        (
            "DATABASE_URL",
            "postgresql://127.0.0.1:1/x?user=me&password=hush&sslmode=disable",
            "swaplog: DATABASE_URL: cannot use postgresql://127.0.0.1:1/x?user=me&password=***&sslmode=disable: ",
        ),
        ("REDIS_URL", "http://127.0.0.1", "swaplog: REDIS_URL is not usable: "),
        ("SWAPLOG_STORES", "attic", "swaplog: SWAPLOG_STORES is not usable: "),
        ("PORT", "many", "swaplog: PORT is not usable: "),
    ],
)
def test_an_unusable_environment_is_one_line_and_exit_code_2(data: Path, variable: str, url: str, line: str) -> None:
    code, out, err = run(data, **{variable: url})
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(line)
    assert "hush" not in err


def test_a_taken_port_is_one_line_and_exit_code_2(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, out, err = run(data, PORT=str(other.getsockname()[1]))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is taken" in err


async def test_a_store_that_cannot_be_used_is_waited_for_aloud(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.local.launch.SAY_EVERY_S", 0.3)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    async with postgres_store(os.environ, make_folders(data), durable=False) as store:
        connection = await asyncpg.connect(store.url.replace("/swaplog?", "/postgres?"))
        await connection.execute("DROP DATABASE swaplog")
        # As with a full disk: it answers, and does not do what it is asked for.
        await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await connection.close()
    said: list[str] = []
    why = "postgres: cannot execute CREATE DATABASE in a read-only transaction"
    starting = asyncio.create_task(stack(data, said=said).__aenter__())
    try:
        # On a busy machine Redis may be waited for as well, or longer.
        await eventually(lambda: any(why in line for line in said), what="a word about the store")
    finally:
        starting.cancel()
        await asyncio.wait([starting])
    assert all(line.startswith("still waiting for ") for line in said)


async def test_migrations_that_take_long_are_waited_for_aloud(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where somebody has locked a table, or there are many rows."""
    monkeypatch.setattr("deploy.local.launch.SAY_EVERY_S", 0.1)
    said: list[str] = []
    until_done = f"until [ -e {data}/done ]; do sleep 0.05; done"
    planned = Stack(data, env=PORTS, roster=[], migrate=("sh", "-c", until_done), durable=False, tell=said.append)
    starting = asyncio.create_task(planned.__aenter__())
    waits = f"still waiting for the migrations; log: {data}/logs/migrate.log"
    await eventually(lambda: starting.done() or waits in said, what="words about them", within_s=20)
    (data / "done").touch()
    await (await starting).__aexit__(None, None, None)
    assert waits in said


async def test_a_service_that_has_much_to_do_is_waited_for_aloud_with_what_it_warns_of(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.local.launch.SAY_EVERY_S", 0.1)
    monkeypatch.setattr("deploy.local.launch.READY_WITHIN_S", 0.2)
    monkeypatch.setattr("deploy.local.logtail.LOOK_EVERY_S", 0.02)
    said: list[str] = []
    starting = asyncio.create_task(stack(data, standin("projector", "late", "done"), said=said).__aenter__())
    waits = f"still waiting for projector: log: there is much to do; logs: {data}/logs"
    await eventually(lambda: starting.done() or said.count(waits) > 5, what="words about the service")
    assert "projector: warning: low on ideas left=3" in said
    (data / "done").touch()
    await (await starting).__aexit__(None, None, None)


async def test_a_service_that_ended_once_while_much_is_to_do_is_waited_for(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.local.launch.SAY_EVERY_S", 0.1)
    monkeypatch.setattr("deploy.local.launch.READY_WITHIN_S", 0.2)
    said: list[str] = []
    planned = stack(data, standin("projector", "late", "done"), said=said)
    starting = asyncio.create_task(planned.__aenter__())
    waits = f"still waiting for projector: log: there is much to do; logs: {data}/logs"
    await eventually(lambda: starting.done() or said.count(waits) > 5, what="words about the service")
    await planned.kill("projector")
    said.clear()
    await eventually(lambda: starting.done() or said.count(waits) > 5, what="words about it again")
    (data / "done").touch()
    await (await starting).__aexit__(None, None, None)


async def test_a_service_that_ends_again_and_again_is_given_up(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.local.launch.SAY_EVERY_S", 0.1)
    monkeypatch.setattr("deploy.local.launch.READY_WITHIN_S", 0.2)
    with pytest.raises(
        ConfigurationError, match=r"^not ready within 0\.2 s: .*router: router exited with code 1 \(Value"
    ):
        async with stack(data, standin("gateway"), standin("router", "crash")):
            pass


@pytest.mark.parametrize("file", ["lock", "secrets.json", "redis/lock", "postgres.lock"])
def test_a_file_that_cannot_be_used_is_one_line_and_exit_code_2(data: Path, file: str) -> None:
    """As after `sudo make run`; here also root cannot open it."""
    (data / file).mkdir(parents=True)
    code, out, err = run(data, REDIS_URL="", REDIS_HOST="", DATABASE_URL="")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"swaplog: cannot use {data / file}: Is a directory")


def test_what_cannot_be_removed_is_named(data: Path) -> None:
    (data / "secrets.json").touch()
    (data / "lock").mkdir()
    with pytest.raises(ConfigurationError, match=f"^cannot remove {data / 'lock'}: Is a directory$"):
        forget(data)
    with pytest.raises(ConfigurationError, match=r"secrets\.json is no folder"):
        forget(data / "secrets.json")


@pytest.mark.parametrize("host", ["::", "::1"])
def test_its_address_is_one_to_connect_to_under_ipv6_too(data: Path, host: str) -> None:
    planned = stack(data, HOST=host)
    planned.ports = Ports(8080, 0, 0)
    # Who listens on :: hears nothing of IPv4.
    assert planned.base_url == "http://[::1]:8080"


def test_a_folder_is_forgotten_also_when_its_secrets_were_given(data: Path) -> None:
    given = {"JWT_SECRET": "given" * 8, "WALLET_SECRET": "given too"}
    assert load_or_make_keys(data / "secrets.json", given) == given
    assert "given" not in (data / "secrets.json").read_text()
    assert forget(data) == f"removed {data}"
    assert not data.exists()


def test_a_folder_that_is_no_stacks_is_not_forgotten(data: Path) -> None:
    (data / "thesis.tex").touch()
    with pytest.raises(ConfigurationError, match="does not look like a stack's data"):
        forget(data)
    assert (data / "thesis.tex").exists()


async def test_why_the_files_of_postgres_could_not_be_made_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    programs = data / "programs"
    programs.mkdir(mode=0o755)
    for name, text in (
        ("postgres", "echo 'postgres (PostgreSQL) 16.1'"),
        ("initdb", "echo 'FATAL:  could not write: No space left'; echo 'initdb: removing contents of data'; exit 1"),
    ):
        program = programs / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    monkeypatch.setenv("SWAPLOG_STORES", "path")
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    with pytest.raises(
        ConfigurationError, match=r"cannot make .*/postgres: FATAL: .*No space left; log: .*postgres\.log"
    ):
        async with postgres_store(os.environ, make_folders(data), durable=False):
            pass
