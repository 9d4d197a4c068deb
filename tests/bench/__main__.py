"""`make bench`: what the stack does per second, how long an order takes, and what it costs. About a minute.

Measures the running stack (DATA_DIR/stack.json); where none runs, or with --own, one of its own in a temporary folder.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from libs.events.errors import EventLogError
from libs.service.settings import ConfigurationError
from tests.bench import limits
from tests.bench.cpu import CpuMeter
from tests.bench.figures import Result, medians
from tests.bench.load import latency, throughput
from tests.bench.machine import machine
from tests.bench.report import comparison, page, shares
from tests.bench.target import Target, found_or_own
from tests.bench.users import Crowd, NotSignedUp, gathered
from tests.bench.watch import WatchLost

EXIT_LOST, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def at_most(highest: float, kind: Callable[[str], Any] = int) -> Callable[[str], Any]:
    """An argument's type: a number from 1 (or above 0, for fractions) to `highest`."""

    def number(text: str) -> Any:
        value = kind(text)
        if not 0 < value <= highest:
            raise argparse.ArgumentTypeError(f"must be above 0 and at most {highest:g}")
        return value

    return number


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    add = parser.add_argument
    add("--own", action="store_true", help="measure a stack of its own, with slots of no length")
    add("--orders", type=at_most(200_000), default=3_000, help="of a throughput run")
    add("--connections", type=at_most(1_000), default=64)
    add("--users", type=at_most(500), default=32)
    add("--runs", type=at_most(20), default=3, help="of the throughput; the medians count")
    add("--rate", type=at_most(20_000, float), default=200, help="orders per second of the open loop")
    add("--seconds", type=at_most(600, float), default=10, help="of the open loop")
    add("--limit-count", type=at_most(100_000), default=5_000, help="operations for each of the machine's limits")
    add("--json", type=Path, help="write the figures here")
    add("--compare", type=Path, help="figures of an older run")
    return parser.parse_args()


async def measure(given: argparse.Namespace) -> Result:
    """All figures."""
    async with found_or_own(own=given.own) as target:
        figures: Result = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "runs": given.runs}
        figures["machine"] = await machine(target)
        async with gathered(target.base_url, given.users) as crowd:
            figures |= await _load(given, crowd, CpuMeter(target.pids))
        figures["limits"] = await _limits(given, target)
    figures["ratios"] = shares(figures)
    return figures


async def _load(given: argparse.Namespace, crowd: Crowd, cpu: CpuMeter) -> Result:
    # Warm up first: cold servers take up to twice as long.
    await throughput(crowd, cpu, orders=max(1, given.orders // 3), connections=given.connections)
    runs = [await throughput(crowd, cpu, orders=given.orders, connections=given.connections) for _ in range(given.runs)]
    opened = await latency(crowd, cpu, rate=given.rate, seconds=given.seconds, connections=given.connections)
    return {"throughput": medians(runs), "throughput_runs": runs, "latency": opened}


async def _limits(given: argparse.Namespace, target: Target) -> Result:
    return {
        "hello": await limits.hello_posts(given.limit_count * 2, given.connections),
        "appends": await limits.appends(target.redis_url, given.limit_count),
        "rows": await limits.rows(target.database_url, given.limit_count * 4),
    }


def lost(figures: Result) -> list[str]:
    """Why these figures are not to be trusted; empty when every order was accepted and seen to end."""
    return [
        f"{run['orders'] - run['accepted']} orders not accepted, {run['not_ended']} not ended. {run['trouble']}"
        for run in [*figures["throughput_runs"], figures["latency"]]
        if run["accepted"] < run["orders"] or run["not_ended"]
    ]


def main() -> int:
    given = arguments()
    try:
        before = json.loads(given.compare.read_text()) if given.compare else None
        figures = uvloop.run(measure(given))
    except (ConfigurationError, NotSignedUp, WatchLost, EventLogError, asyncpg.PostgresError, OSError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return EXIT_USAGE
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_INTERRUPTED
    print(page(figures))
    if before:
        print(f"\n{comparison(figures, before)}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    for reason in lost(figures):
        sys.stderr.write(f"bench: {reason}\n")
    return EXIT_LOST if lost(figures) else 0


if __name__ == "__main__":
    sys.exit(main())
