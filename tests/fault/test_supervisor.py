"""The stack as a whole, with stand-ins for the services: what it says, what it restarts, what it leaves behind."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import psutil  # type: ignore[import-untyped]
import pytest
from redis.asyncio import Redis

from deploy.local.forks import Forks, forking
from deploy.local.roster import Service
from deploy.local.stack import Stack
from libs.service.settings import ConfigurationError
from tests.servers import throw_away_folders
from tests.waiting import eventually

PORTS = {"PORT": "0", "NOTIFIER_PORT": "0", "LOCALNET_PORT": "0", "DRAIN_S": "1"}


def standin(name: str, *mode: str, instances: int = 1) -> Service:
    return Service(name, (sys.executable, "-m", "tests.standin", *(mode or ("ready",))), instances)


@pytest.fixture
def data() -> Iterator[Path]:
    with throw_away_folders(lock=False) as folders:
        yield folders.data


def stack(data: Path, *roster: Service, said: list[str] | None = None, **env: str) -> Stack:
    lines: list[str] = [] if said is None else said
    return Stack(data, env=PORTS | env, roster=roster, migrate=None, durable=False, tell=lines.append)


async def test_everything_is_ready_inside_and_gone_afterwards(data: Path) -> None:
    async with stack(data, standin("gateway"), standin("router", instances=2)) as running:
        pids = running.pids
        assert set(pids) >= {"gateway", "router", "router-2"}
        state = json.loads((data / "stack.json").read_text())
        assert state["pids"] == pids
        assert state["base_url"] == running.base_url
        assert stat.S_IMODE((data / "stack.json").stat().st_mode) == 0o600
    assert not any(psutil.pid_exists(pid) for pid in pids.values())
    assert not (data / "stack.json").exists()
    assert not running.folders.run.exists()


async def test_a_killed_service_is_started_again_and_said_so(data: Path) -> None:
    said: list[str] = []
    async with stack(data, standin("router"), said=said) as running:
        before = running.pids["router"]
        await running.kill("router", signal.SIGKILL)
        await running.until_ready("router")
        assert running.pids["router"] != before
        assert running.restarts["router"] == 1
        assert json.loads((data / "stack.json").read_text())["pids"] == running.pids
    assert said[0].startswith("router was killed by SIGKILL; again in 0.5 s; log: ")
    assert said[1] == "router is ready again"


async def test_a_service_is_started_again_also_when_somebody_took_the_logs_away(data: Path) -> None:
    async with stack(data, standin("router")) as running:
        shutil.rmtree(running.folders.logs)  # to have room on a full disk
        await running.kill("router", signal.SIGKILL)
        await running.until_ready("router")
        assert running.folders.log("router").exists()


async def test_others_go_before_a_service_nobody_waits_for_also_when_it_was_started_again(data: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    async with stack(data, standin("gateway"), replace(standin("projector"), nice=7)) as running:
        for _ in range(2):
            found = {name: os.getpriority(os.PRIO_PROCESS, running.pids[name]) for name in ("gateway", "projector")}
            assert found == {"gateway": own, "projector": own + 7}
            await running.kill("projector", signal.SIGKILL)
            await running.until_ready("projector")


async def test_a_service_that_keeps_crashing_is_given_longer_and_longer_pauses(data: Path) -> None:
    said: list[str] = []
    async with stack(data, standin("router", "once", "crash-now"), said=said):
        (data / "crash-now").touch()
        await eventually(lambda: len([line for line in said if "again in 1 s" in line]) == 1, what="the second pause")
    assert "router exited with code 1; again in 0.5 s" in said[0]


async def test_an_end_on_a_full_disk_is_said_to_be_one(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    async with stack(data, standin("router", "once", "crash-now"), said=said) as running:
        logs = running.folders.logs
        monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=4096))
        (data / "crash-now").touch()
        await eventually(lambda: bool(said))
    assert said[0].startswith(f"router exited with code 1 (there is no room on the disk of {logs}); again in 0.5 s")


async def test_redis_is_started_again_with_its_data(data: Path) -> None:
    running = Stack(data, env=PORTS, roster=[], migrate=None)
    async with running:
        if running.stores["redis"].rung == "url":
            pytest.skip("Redis is given by URL: it is not ours to kill")
        async with Redis.from_url(running.redis_url) as client:
            await client.set("kept", "yes")
        await running.kill("redis")
        await running.until_ready("redis")
        async with Redis.from_url(running.redis_url) as client:
            assert await client.get("kept") == b"yes"


async def test_a_postgres_that_was_asked_to_end_does_not_wait_for_the_services(data: Path) -> None:
    """It would refuse new connections for ever, and the services keep theirs."""
    said: list[str] = []
    async with stack(data, said=said) as running:
        held = await asyncpg.connect(running.database_url)
        os.kill(running.pids["postgres"], signal.SIGTERM)
        await eventually(lambda: running.restarts["postgres"] == 1, what="another Postgres")
        await running.until_ready("postgres")
        held.terminate()
        await (await asyncpg.connect(running.database_url)).close()
    assert said[0] == "postgres was asked to end, and waits for its clients: it ends at once"


async def test_what_starts_services_and_what_stores_them_is_told_no_secret(
    data: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked process has in its memory what its parent was told, and others see what one that runs as nobody was."""
    told: list[Mapping[str, str]] = []

    def forking_with(log: Path, environ: Mapping[str, str]) -> AbstractAsyncContextManager[Forks]:
        told.append(environ)
        return forking(log, environ)

    monkeypatch.setattr("deploy.local.stack.forking", forking_with)
    localnet = Service("localnet", (sys.executable, "-m", "services.localnet"))
    given = ("REDIS_URL", "WALLET_SECRET", "JWT_SECRET")
    async with stack(data, localnet, REDIS_URL=redis_url, WALLET_SECRET="given", JWT_SECRET="given" * 8) as running:
        if "postgres" in running.pids:  # else it is given by URL, too
            told.append(psutil.Process(running.pids["postgres"]).environ())
    assert not [secret for environ in told for secret in given if secret in environ]


async def test_a_stopped_service_stays_down_until_started(data: Path) -> None:
    async with stack(data, standin("router")) as running:
        await running.stop("router")
        assert "router" not in running.pids
        await running.start("router")
        assert "router" in running.pids


async def test_a_service_that_ignores_the_signal_is_killed_after_its_drain_time(data: Path) -> None:
    async with stack(data, standin("router", "stubborn"), DRAIN_S="0") as running:
        pid = running.pids["router"]
    assert not psutil.pid_exists(pid)


async def test_a_wrong_environment_stops_everything_with_the_services_own_line(data: Path) -> None:
    before = children()
    with pytest.raises(ConfigurationError, match=r"^standin: SOMETHING is not set$"):
        async with stack(data, standin("localnet"), standin("router", "usage")):
            pass
    assert children() == before


async def test_a_command_that_does_not_exist_stops_everything(data: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"router cannot be started: .*No such file"):
        async with stack(data, Service("router", ("/no/such/program",))):
            pass


async def test_warnings_of_services_are_repeated_shortly(data: Path) -> None:
    said: list[str] = []
    async with stack(data, standin("router", "warns"), said=said) as running:
        log = running.folders.log("router")
        with log.open("a") as file:
            file.write('{"level":"info","event":"fine"}\n{"level":"error","event":"bad luck","order_id":"7"}\n')
        await eventually(lambda: "router: error: bad luck order_id=7" in said, what="the error on the terminal")
    assert not [line for line in said if "fine" in line]


async def test_what_stores_log_does_not_grow_without_end(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.local.logtail.LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("deploy.local.logtail.LOG_BYTES_MAX", 10_000)
    async with stack(data) as running:
        logs = [running.folders.log(name) for name in running.pids]
        for log in logs:
            with log.open("a") as file:
                file.write("FATAL: and once more\n" * 1_000)
        await eventually(lambda: all(log.stat().st_size < 10_000 for log in logs), what="short logs")


async def test_a_second_stack_on_the_same_folder_is_refused(data: Path) -> None:
    async with stack(data):
        with pytest.raises(ConfigurationError, match="another stack already runs on"):
            async with stack(data):
                pass


async def test_secrets_are_made_once_and_private(data: Path) -> None:
    async with stack(data) as running:
        first = (running.env["JWT_SECRET"], running.env["WALLET_SECRET"])
    assert stat.S_IMODE((data / "secrets.json").stat().st_mode) == 0o600
    async with stack(data, JWT_SECRET="given" * 8) as running:
        assert running.env["JWT_SECRET"] == "given" * 8
        assert running.env["WALLET_SECRET"] == first[1]
    assert json.loads((data / "secrets.json").read_text())["JWT_SECRET"] == first[0]


async def test_a_taken_port_of_our_own_choice_is_replaced_and_one_asked_for_is_not(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        with pytest.raises(ConfigurationError, match=f"port {taken} is taken: .* set NOTIFIER_PORT"):
            async with stack(data, NOTIFIER_PORT=taken):
                pass
        with pytest.raises(ConfigurationError, match=f"port {taken} is taken: .* set PORT"):
            async with stack(data, PORT=taken):
                pass


async def test_a_killed_supervisor_leaves_no_orphans(data: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from tests.fault.test_supervisor import stack, standin\n"
        "async def main():\n"
        "    async with stack(Path(sys.argv[1]), standin('gateway'), standin('router', 'stubborn')) as running:\n"
        "        print(*running.pids.values(), flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(data)], stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        assert process.stdout
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) >= 2
        process.kill()
        process.wait()
        await eventually(lambda: not [pid for pid in pids if alive(pid)], what="all children gone")
    async with stack(data, standin("gateway")) as again:
        assert "gateway" in again.pids


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children() if alive(child.pid)}
