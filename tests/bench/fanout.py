"""What one notifier carries: `python -m tests.bench.fanout`. Two thousand sockets of one user, on a stack of its own.

Tells how much memory an idle socket takes, how fast one event reaches all of them while some never read, and whether
they all come back with their cursor, and miss nothing, after the notifier was killed.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp
import psutil  # type: ignore[import-untyped]
import uvloop

from deploy.local.stack import Stack
from tests.bench.machine import raise_file_limit
from tests.clients import signed_up

MUTE = 20  # sockets that never read
EVENTS_PER_ORDER = 5


@dataclass
class Listener:
    """One socket that counts; `versions` by order."""

    seen: dict[str, list[int]] = field(default_factory=dict)
    at: dict[tuple[str, int], float] = field(default_factory=dict)
    cursor: str = ""
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self, session: aiohttp.ClientSession, url: str) -> None:
        asked = {"cursor": self.cursor} if self.cursor else {}
        async with session.ws_connect(url, params=asked, max_msg_size=0) as ws:
            async for message in ws:
                body = json.loads(message.data)
                self.cursor = body.get("cursor", self.cursor)
                if "version" in body:
                    self.seen.setdefault(body["orderId"], []).append(body["version"])
                    self.at[body["orderId"], body["version"]] = time.perf_counter()
        self.closed.set()

    async def keep_listening(self, session: aiohttp.ClientSession, url: str) -> None:
        """Come back with the cursor, whatever happens."""
        while True:
            try:
                await self.listen(session, url)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.2)


def resident_kib(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss // 1024)


async def until(condition: Any, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - of thousands of listeners
            await asyncio.sleep(0.05)


async def measure(sockets: int, orders: int, folder: Path) -> dict[str, Any]:
    env = {
        "PORT": "0",
        "NOTIFIER_PORT": "0",
        "LOCALNET_PORT": "0",
        "LOCALNET_SLOT_MS": "0",
        "SOCKETS_PER_USER": "10000",
    }
    async with Stack(folder / "data", env=env, durable=True) as stack, signed_up(stack.base_url) as client:
        url = f"http://127.0.0.1:{stack.ports.notifier}/api/ws/orders"
        headers = {"Authorization": f"Bearer {client.token}"}
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
            before = resident_kib(stack.pids["notifier"])
            mute = [await session.ws_connect(url) for _ in range(MUTE)]
            listeners = [Listener() for _ in range(sockets)]
            tasks: list[asyncio.Task[None]] = []
            for listener in listeners:
                tasks.append(asyncio.create_task(listener.keep_listening(session, url)))
                if len(tasks) % 100 == 0:
                    await until(lambda: all(each.cursor for each in listeners[: len(tasks)]), 60)
            idle = (resident_kib(stack.pids["notifier"]) - before) / (sockets + MUTE)
            delivered = await delivery(client, listeners, orders)
            killed = await after_a_kill(stack, client, listeners)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for ws in mute:
                await ws.close()
    return {"sockets": sockets, "mute": MUTE, "kib_per_idle_socket": round(idle, 1), **delivered, **killed}


async def delivery(client: Any, listeners: Sequence[Listener], orders: int) -> dict[str, Any]:
    """One order after the other: each event to everybody, timed from the first that hears to the last."""
    spread: list[float] = []
    began = time.perf_counter()
    for _ in range(orders):
        order_id = (await client.order())["orderId"]
        await until(lambda: all(len(each.seen.get(order_id, ())) == EVENTS_PER_ORDER for each in listeners), 120)  # noqa: B023
        for version in range(1, EVENTS_PER_ORDER + 1):
            times = sorted(each.at[order_id, version] for each in listeners)
            spread += [at - times[0] for at in times]
    took = time.perf_counter() - began
    cuts = quantiles(spread, n=100)
    return {
        "messages_per_s": round(orders * EVENTS_PER_ORDER * len(listeners) / took),
        "spread_ms_p50": round(cuts[49] * 1000, 1),
        "spread_ms_p99": round(cuts[98] * 1000, 1),
    }


async def after_a_kill(stack: Stack, client: Any, listeners: Sequence[Listener]) -> dict[str, Any]:
    """Kill the notifier while an order goes its way: who comes back must have all of it, once."""
    order_id = (await client.order())["orderId"]
    began = time.perf_counter()
    await stack.kill("notifier", signal.SIGKILL)
    later = (await client.order())["orderId"]
    whole = list(range(1, EVENTS_PER_ORDER + 1))
    await until(lambda: all(each.seen.get(later) == whole for each in listeners), 120)
    wrong = sum(each.seen.get(order_id) != whole for each in listeners)
    return {"back_after_kill_s": round(time.perf_counter() - began, 1), "missed_or_repeated": wrong}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fanout", description=__doc__)
    parser.add_argument("--sockets", type=int, default=2_000)
    parser.add_argument("--orders", type=int, default=10)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    raise_file_limit(given.sockets * 2 + 1_000)
    with tempfile.TemporaryDirectory(prefix="swaplog-fanout-") as folder:
        Path(folder).chmod(0o711)
        figures = uvloop.run(measure(given.sockets, given.orders, Path(folder)))
    print("  ".join(f"{name}={value}" for name, value in figures.items()))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if figures["missed_or_repeated"] else 0


if __name__ == "__main__":
    sys.exit(main())
