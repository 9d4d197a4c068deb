"""`make bench`: what the stack does per second, how long an order takes, and what it costs. A minute or two.

Measures the running stack (DATA_DIR/stack.json); where none runs, or with --own, one of its own in a temporary folder.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from deploy.local.stack import Stack
from tests.bench import limits
from tests.bench.cpu import CpuMeter, spent
from tests.bench.figures import Result, cpu_per_order_ms, medians
from tests.bench.load import LoadError, Users, latency, sign_up, throughput
from tests.bench.report import comparison, machine, table
from tests.bench.watch import WatchLost

OWN = {"PORT": "0", "NOTIFIER_PORT": "0", "LOCALNET_PORT": "0", "LOCALNET_SLOT_MS": "0"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("--own", action="store_true", help="measure a stack of its own, with slots of no length")
    parser.add_argument("--orders", type=int, default=3_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--runs", type=int, default=3, help="of the throughput; the medians count")
    parser.add_argument("--rate", type=float, default=200, help="orders per second of the open loop")
    parser.add_argument("--seconds", type=float, default=10, help="of the open loop")
    parser.add_argument("--limit-count", type=int, default=5_000, help="operations for each of the machine's limits")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--compare", type=Path, help="figures of an older run")
    return parser.parse_args()


@asynccontextmanager
async def stack_to_measure(*, own: bool) -> AsyncIterator[Mapping[str, Any]]:
    """What `stack.json` says of it."""
    running = Path(os.environ.get("DATA_DIR") or "data") / "stack.json"
    if not own and running.exists():
        yield json.loads(running.read_text())
        return
    sys.stderr.write("measuring a stack of its own, in a temporary folder\n")
    with tempfile.TemporaryDirectory(prefix="swaplog-bench-") as folder:
        data = Path(folder) / "data"
        os.chmod(folder, 0o711)  # noqa: PTH101 - Postgres may run as somebody else
        async with Stack(data, env=OWN, durable=True) as stack:
            yield json.loads(stack.folders.stack.read_text())


async def measure(given: argparse.Namespace, stack: Mapping[str, Any]) -> Result:
    """All figures."""
    figures: Result = {"machine": await machine(stack["redis_url"], stack["database_url"])}
    users = await sign_up(stack["base_url"], given.users)
    meter = CpuMeter(stack["pids"])
    try:
        await throughput(users, given.orders // 3, given.connections)  # a cold server is up to twice as slow
        runs = [await _with_cpu(users, given, meter) for _ in range(given.runs)]
        figures["throughput"] = medians(runs)
        figures["latency"] = await latency(users, given.rate, given.seconds)
    finally:
        users.close()
    figures["limits"] = {
        "hello": await limits.hello_posts(given.limit_count, given.connections),
        "appends": await limits.appends(stack["redis_url"], given.limit_count),
        "rows": await limits.rows(stack["database_url"], given.limit_count * 4),
    }
    return figures


async def _with_cpu(users: Users, given: argparse.Namespace, meter: CpuMeter) -> Result:
    before, own = meter.read(), meter.read_self()
    run = await throughput(users, given.orders, given.connections)
    await asyncio.sleep(0.5)  # the projector's share comes a moment later
    cost = cpu_per_order_ms(spent(before, meter.read()), run["orders"])
    return {**run, "cpu_ms_per_order": cost, "generator_cpu_s": round(meter.read_self() - own, 3)}


async def run(given: argparse.Namespace) -> Result:
    async with stack_to_measure(own=given.own) as stack:
        return await measure(given, stack)


def main() -> int:
    given = arguments()
    try:
        figures = uvloop.run(run(given))
    except (LoadError, WatchLost, OSError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    print(table(figures))
    if given.compare:
        print("\n" + comparison(figures, json.loads(given.compare.read_text())))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
