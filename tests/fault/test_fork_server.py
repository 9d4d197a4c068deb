"""Services forked from a process that has imported what they share: each must be as if started by itself."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it brings no types
import pytest

from deploy.local.forks import Forks, can_fork, forking
from deploy.local.plan import NotReachable
from deploy.local.ports import Claims
from deploy.local.processes import Command, Process
from deploy.local.readiness import check_ready
from libs.service.settings import EXIT_USAGE
from tests.fault.test_supervisor import alive
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
Make = Callable[..., Command]
LOCALNET = (sys.executable, "-m", "services.localnet")
MIGRATE = (sys.executable, "-m", "libs.orders.migrate")


@pytest.fixture
async def forks(tmp_path: Path) -> AsyncIterator[Forks]:
    async with forking(tmp_path / "fork-server.log", os.environ) as forks:
        yield forks


@pytest.fixture
def localnet(claimed: Claims, tmp_path: Path) -> Make:
    return partial(_localnet, claimed, tmp_path)


def _localnet(claimed: Claims, folder: Path, **env: str) -> Command:
    admin, port = (str(claimed.free("127.0.0.1")) for _ in range(2))
    own = {"ADMIN_PORT": admin, "LOCALNET_PORT": port, "DATA_DIR": str(folder)}
    return Command("localnet", LOCALNET, folder / "localnet.log", {**os.environ, **own, **env})


async def ready(process: Process) -> None:
    port = int(process.command.env["ADMIN_PORT"])

    async def answers() -> bool:
        try:
            await check_ready("127.0.0.1", port)
        except NotReachable:
            return False
        return True

    await eventually(answers, what="ready")


async def test_it_is_named_led_and_told_like_a_process_of_its_own(forks: Forks, localnet: Make) -> None:
    process = forks.spawn(localnet(TZ="Asia/Tokyo"))
    await ready(process)
    seen = psutil.Process(process.pid)
    assert seen.parent() != psutil.Process()
    assert " ".join(seen.cmdline()).strip() == f"{sys.executable} -m services.localnet"
    assert os.getpgid(process.pid) == process.pid
    assert "started" in process.command.log.read_text()
    assert await process.stop(10) == 0
    assert not alive(process.pid)


async def test_exit_codes_and_last_words_are_told(forks: Forks, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    process = forks.spawn(Command("migrate", MIGRATE, tmp_path / "migrate.log", environ))
    assert await process.exited() == EXIT_USAGE
    assert "DATABASE_URL" in process.last_line()
    assert (tmp_path / "migrate.log").read_text().count("\n") == 1, "no warning of how it was started"


async def test_a_killed_one_is_told_with_its_signal(forks: Forks, localnet: Make) -> None:
    process = forks.spawn(localnet())
    process.signal(signal.SIGKILL)
    assert await process.exited() == -signal.SIGKILL


async def test_an_interpreter_built_where_there_were_no_pidfds_hears_of_ends_all_the_same(
    forks: Forks, localnet: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    process = forks.spawn(localnet())
    process.signal(signal.SIGKILL)
    async with asyncio.timeout(30):
        assert await process.exited() == -signal.SIGKILL


async def test_without_its_server_nothing_goes_on_and_everything_can_be_started(forks: Forks, localnet: Make) -> None:
    first = forks.spawn(localnet())
    server = psutil.Process(first.pid).parent()
    assert server
    assert "fork_server" in " ".join(server.cmdline())
    server.kill()
    assert await first.exited() == -signal.SIGKILL
    await eventually(lambda: not alive(first.pid), what="gone with its server")
    again = forks.spawn(localnet())
    await ready(again)
    assert psutil.Process(again.pid).parent() == psutil.Process()
    assert await again.stop(10) == 0


async def test_what_a_frozen_server_does_not_tell_is_noticed_and_everything_can_be_started(
    forks: Forks, localnet: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.local.forks.TOLD_WITHIN_S", 0.2)
    first, second = forks.spawn(localnet()), forks.spawn(localnet())
    server = psutil.Process(first.pid).parent()
    assert server
    server.suspend()
    first.signal(signal.SIGKILL)
    assert await first.exited() == -signal.SIGKILL
    assert await second.exited() == -signal.SIGKILL, "it goes with its server, or there would be two of it"
    await eventually(lambda: not alive(server.pid) and not alive(second.pid), what="gone")
    again = forks.spawn(localnet())
    await ready(again)
    assert await again.stop(10) == 0


async def test_a_frozen_server_that_starts_nothing_is_given_up(
    forks: Forks, localnet: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.local.forks.TOLD_WITHIN_S", 600)
    first = forks.spawn(localnet())
    monkeypatch.setattr("deploy.local.forks.START_WITHIN_S", 0.2)
    server = psutil.Process(first.pid).parent()
    assert server
    server.suspend()
    again = forks.spawn(localnet())
    await eventually(lambda: not alive(server.pid) and not alive(first.pid), what="gone, or there would be two of each")
    await ready(again)
    assert await again.stop(10) == 0


async def test_nothing_outlives_the_block(tmp_path: Path, localnet: Make) -> None:
    async with AsyncExitStack() as stack:
        forks = await stack.enter_async_context(forking(tmp_path / "fork-server.log", os.environ))
        process = forks.spawn(localnet())
        await ready(process)
    assert await process.exited() == -signal.SIGKILL
    await eventually(lambda: not alive(process.pid), what="gone")


@pytest.mark.parametrize(
    "argv",
    [
        ("/usr/bin/redis-server",),
        (sys.executable, "-m", "tests.standin", "ready"),
        (sys.executable, "-m", "http.server"),
    ],
)
def test_only_modules_of_ours_are_forked(argv: tuple[str, ...]) -> None:
    assert can_fork(LOCALNET)
    assert not can_fork(argv)
