"""The commands people are shown, run as they stand against a real stack."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import Any

import asyncpg
import pytest
from redis import Redis

from deploy.local.stack import Stack
from libs.client import Client
from libs.events.ids import partition_of
from libs.events.redis_keys import Keys
from tests.clients import signed_up
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/integrators.md", "docs/operators.md")
README, INTEGRATORS, OPERATORS = ((ROOT / page).read_text() for page in PAGES)
ENVIRONMENT = {"PORT": "0", "NOTIFIER_PORT": "0", "LOCALNET_PORT": "0", "LOCALNET_SLOT_MS": "50"}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(tmp_path / "stack", env=ENVIRONMENT, durable=False) as running:
        yield running


def path_with_stand_ins(folder: Path) -> str:
    """A bare machine has neither curl nor redis-cli."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for shim in (ROOT / "tests" / "shims").iterdir():
        if shutil.which(shim.name) is None:
            (bin_folder / shim.name).symlink_to(shim)
    return f"{bin_folder}{os.pathsep}{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def checkout(folder: Path) -> Path:
    """The project as somebody has it who just cloned it, but for its data."""
    for entry in ROOT.iterdir():
        if entry.name not in {"data", ".git", "tap.cursors"}:
            (folder / entry.name).symlink_to(entry)
    (folder / "data").symlink_to(folder / "stack")
    return folder


def _without_make(environ: Mapping[str, str]) -> dict[str, str]:
    """What the `make` that runs these tests was told is not for the one a reader calls."""
    return {name: value for name, value in environ.items() if not name.startswith("MAKE") and name != "ARGS"}


async def said_by(stack: Stack, folder: Path, script: str) -> str:
    """Run a script as if the stack were `make run`'s own; gives what it prints."""
    script = script.replace("http://127.0.0.1:8080", stack.base_url)
    script = script.replace("http://127.0.0.1:8899", f"http://127.0.0.1:{stack.ports.localnet}")
    shell = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        f"set -euo pipefail\n{script}",
        cwd=checkout(folder),
        env={**_without_make(os.environ), "PATH": path_with_stand_ins(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = (text.decode() for text in await shell.communicate())
    assert shell.returncode == 0, said + complained
    return said


@pytest.mark.timeout(600)
async def test_every_command_of_the_readme_works(stack: Stack, tmp_path: Path) -> None:
    said = await said_by(stack, tmp_path, "\n".join(blocks(README, "sh")))

    assert "problem" not in said
    # By curl, by swaplog twice, by `make journey`, by redis-cli and by the tap.
    assert said.count("OrderRequested") >= 6
    assert re.search(r"is CONFIRMED|TxConfirmed: CONFIRMED", said), "on the WebSocket"
    assert "hole before" not in said


async def test_every_command_for_integrators_works(stack: Stack, tmp_path: Path) -> None:
    async with signed_up(stack.base_url) as client:
        await client.order()
    said = await said_by(stack, tmp_path, "\n".join(blocks(INTEGRATORS, "sh")))
    assert '"type": "OrderRequested"' in said


async def test_every_command_for_operators_works(stack: Stack, tmp_path: Path) -> None:
    async with signed_up(stack.base_url, "ada@example.org") as client:
        order = await client.order()
    said = await said_by(stack, tmp_path, "\n".join(blocks(OPERATORS, "sh")))
    assert f"order {order['orderId']} of user {client.user_id}" in said
    assert "0 differ" in said


async def test_what_left_redis_is_found_where_integrators_are_told(stack: Stack) -> None:
    async with signed_up(stack.base_url) as client:
        partition = partition_of((await client.order())["orderId"])
    query, rights, _ = blocks(INTEGRATORS, "sql")  # the last is run in tests/contract/test_repair.py
    query = query.replace("= 3", f"= {partition}").replace("> 1041", "> 0")
    connection = await asyncpg.connect(stack.stores["postgres"].url)
    try:
        await connection.execute(f"{rights}; SET ROLE integrator")
        rows = await eventually(partial(connection.fetch, query), what="the first event is archived")
        for denied in ("SELECT email FROM users", "SELECT id FROM orders", "DELETE FROM events"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(denied)
    finally:
        # Roles outlive the database, where the server is a given one.
        await connection.execute("RESET ROLE; DROP OWNED BY integrator; DROP ROLE integrator")
        await connection.close()
    archived = {name: str(value) for name, value in rows[0].items()}
    with Redis.from_url(stack.stores["redis"].url, decode_responses=True) as client:
        ((entry_id, told),) = client.xrange(Keys(partition).log, count=1)
    assert archived.pop("position") == entry_id.partition("-")[2]
    assert datetime.fromisoformat(archived.pop("time")) == datetime.fromisoformat(told.pop("time"))
    assert archived == told


async def test_the_python_of_the_readme_works(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = blocks(README, "python")
    async with signed_up(stack.base_url) as client:
        known: dict[str, Any] = {"Client": Client, "key": client.token}
        exec(f"async def example():\n{indent(shown, '    ')}".replace("http://127.0.0.1:8080", stack.base_url), known)
        await known["example"]()
    assert "OrderRequested PENDING" in capsys.readouterr().out
