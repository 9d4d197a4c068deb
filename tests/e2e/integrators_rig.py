"""A log with whole orders in it, and the tap that reads it."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from libs.events.log import Committed
from libs.events.redis_log import open_redis_log
from tests.builders import a_request, route_selected, routing_started, then, tx_confirmed, tx_submitted

ROOT = Path(__file__).parents[2]
TAP = ROOT / "examples" / "tap.py"
PAGE = ROOT / "docs" / "integrators.md"
PARTITIONS = 4
WHOLE_STORY = (routing_started(), route_selected(), tx_submitted(), tx_confirmed())


def orders_happen(url: str, *users: str) -> list[str]:
    """One whole order per user; gives the ids of all events."""

    async def happen() -> list[str]:
        told: list[str] = []
        async with open_redis_log(url, PARTITIONS) as log:
            await log.start(create=True)
            for user in users:
                step, before = a_request(PARTITIONS, user)
                following, _ = then(before, *WHOLE_STORY)
                for one in (step, following):
                    assert isinstance(await log.commit(one), Committed)
                    told += [event.id for event in one.events]
        return told

    return asyncio.run(happen())


def tap(url: str, folder: Path, cursors: str = "tap.cursors") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TAP), "--url", url, "--cursors", str(folder / cursors), "--once"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def ids(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["id"] for line in done.stdout.splitlines()]
