"""The README's commands, run as they stand against a real stack."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.local.stack import Stack

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
ENVIRONMENT = {"PORT": "0", "NOTIFIER_PORT": "0", "LOCALNET_PORT": "0", "LOCALNET_SLOT_MS": "50"}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(tmp_path / "data", env=ENVIRONMENT, durable=False) as running:
        yield running


def path_with_stand_ins(folder: Path) -> str:
    """A bare machine has neither curl nor redis-cli."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for shim in (ROOT / "tests" / "shims").iterdir():
        if shutil.which(shim.name) is None:
            (bin_folder / shim.name).symlink_to(shim)
    return f"{bin_folder}{os.pathsep}{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"


async def test_every_command_of_the_readme_works(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    script = "set -euo pipefail\n" + "\n".join(BLOCKS)
    script = script.replace("http://127.0.0.1:8080", stack.base_url)
    shell = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        cwd=tmp_path,
        env={**os.environ, "PATH": path_with_stand_ins(tmp_path), "DATA_DIR": str(stack.data_dir)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        said, complained = (text.decode() for text in await shell.communicate())

    assert shell.returncode == 0, said + complained
    assert "problem" not in said
    assert said.count("OrderRequested") >= 3  # by curl, by swaplog and by redis-cli
    assert "hole before" not in said
