"""`make bench`: what the stack does per second, how long an order takes, what it costs, and how near to the limits of
its stores it is. Some minutes; `--only` for parts of it, `--full` for all there is.

Measures stacks of its own in a temporary folder, one for each way to sync the append-only file; with --running, the
running one (DATA_DIR/stack.json).
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from libs.events.errors import EventLogError
from libs.service.logging import configure_logging
from libs.service.settings import ConfigurationError, load_settings
from tests.bench.figures import Result
from tests.bench.machine import machine, raise_file_limit, stores
from tests.bench.parts import PARTS, World, chosen
from tests.bench.picture import draw
from tests.bench.report import comparison, page
from tests.bench.target import AOF, own_stack, running_stack
from tests.bench.trust import distrusted
from tests.bench.users import NotSignedUp
from tests.bench.watch import WatchLost

EXIT_DISTRUSTED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
FILES_MAX = 10_000
UNMEASURABLE = (
    ConfigurationError, NotSignedUp, WatchLost, EventLogError, RuntimeError, asyncpg.PostgresError, OSError
)  # fmt: skip


def at_most(highest: float, kind: Callable[[str], Any] = int) -> Callable[[str], Any]:
    """An argument's type: a number from 1 (or above 0, for fractions) to `highest`."""

    def number(text: str) -> Any:
        value = kind(text)
        if not 0 < value <= highest:
            raise argparse.ArgumentTypeError(f"must be above 0 and at most {highest:g}")
        return value

    return number


def numbers(highest: int) -> Callable[[str], list[int]]:
    """An argument's type: numbers from 1 to `highest`, by commas, in ascending order."""
    return lambda text: sorted(map(at_most(highest), text.split(",")))


def some_of(names: tuple[str, ...]) -> Callable[[str], list[str]]:
    """An argument's type: names separated by commas."""

    def read(text: str) -> list[str]:
        wanted = text.split(",")
        if unknown := set(wanted) - set(names):
            raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(names)}")
        return [name for name in names if name in wanted]

    return read


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    add = parser.add_argument
    add("--only", type=some_of(tuple(PARTS)), help=f"parts, by commas: {', '.join(PARTS)}")
    add("--full", action="store_true", help="every part there is; half an hour")
    add("--aof", type=some_of(AOF), default=list(AOF), help=f"how Redis syncs: {', '.join(AOF)}")
    add("--running", action="store_true", help="measure the running stack as it is")
    add("--orders", type=at_most(200_000), default=3_000, help="of a throughput run")
    add("--connections", type=at_most(1_000), default=64)
    add("--users", type=at_most(500), default=32)
    add("--runs", type=at_most(20), default=3, help="of the throughput; the medians count")
    add("--batches", type=numbers(100), default=[10, 25, 100], help="orders in each request, by commas")
    add("--rate", type=at_most(20_000, float), default=200, help="orders per second of the open loop")
    add("--seconds", type=at_most(600, float), default=10, help="of the open loop")
    add("--limit-count", type=at_most(10_000), default=3_000, help="orders for each of the machine's limits")
    add("--sockets", type=at_most(5_000), default=2_000, help="of the fan-out")
    add("--history", type=at_most(5_000_000), default=1_000_000, help="events printed and folded again")
    add("--levels", type=numbers(1_000_000), default=[1_000, 100_000, 1_000_000], help="orders in the store, by commas")
    add("--beside", nargs=2, metavar=("URL", "PIDS"), help="another server of the API, and name=pid,… of its processes")
    add("--json", type=Path, help="write the figures here")
    add("--pictures", type=Path, help="draw SVGs into this folder")
    add("--compare", type=Path, help="figures of an older run")
    return parser.parse_args()


async def measure(given: argparse.Namespace) -> Result:
    """All figures: those of a way to sync under its name, the others under "once"."""
    names = chosen(given)
    figures: Result = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    for aof in ("as it is",) if given.running else given.aof:
        figures[aof] = {}
        on_stack = [name for name in names if PARTS[name].on_stack and PARTS[name].each_aof]
        if on_stack:
            figures[aof] |= await _on_stack(given, aof, on_stack)
        if not given.running:
            alone = [name for name in names if PARTS[name].each_aof and not PARTS[name].on_stack]
            figures[aof] |= await _alone(World(given, aof), alone)
    once = [name for name in names if not PARTS[name].each_aof]
    figures["once"] = {} if given.running else await _once(given, once)
    return figures


async def _once(given: argparse.Namespace, names: list[str]) -> Result:
    aof = given.aof[-1]
    found = await _alone(World(given, aof), [name for name in names if not PARTS[name].on_stack])
    for name in names:
        if PARTS[name].on_stack:
            # Each with a stack to itself: they leave much behind.
            one = await _on_stack(given, aof, [name])
            found[name] = {**one[name], "restarts": one["restarts"]}
    return found


async def _on_stack(given: argparse.Namespace, aof: str, names: list[str]) -> Result:
    if given.running:
        target = running_stack(load_settings().data_dir)
        if target is None:
            raise ConfigurationError("no stack is running: start one with `make run`, or leave --running away")
        return await _alone(World(given, aof, target), names)
    async with own_stack(aof) as target:
        return await _alone(World(given, aof, target), names)


async def _alone(world: World, names: list[str]) -> Result:
    found: Result = {}
    if world.has_target:
        found["stores"] = await stores(world.target)
    for name in names:
        sys.stderr.write(f"{world.aof}: {name}\n")
        found[name] = await PARTS[name].measure(world)
    if world.has_target:
        found["restarts"] = {name: count for name, count in world.target.restarts().items() if count}
    return found


def main() -> int:
    given = arguments()
    raise_file_limit(FILES_MAX)
    configure_logging("bench", "warning")
    try:
        before = json.loads(given.compare.read_text()) if given.compare else None
        figures = uvloop.run(measure(given))
    except (
        ConfigurationError,
        NotSignedUp,
        WatchLost,
        EventLogError,
        RuntimeError,
        asyncpg.PostgresError,
        OSError,
    ) as error:
        sys.stderr.write(f"bench: {error}\n")
        return EXIT_USAGE
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_INTERRUPTED
    return told(given, figures, before)


def told(given: argparse.Namespace, figures: Result, before: Result | None) -> int:
    """Print and keep the figures; the exit code says whether they can be trusted."""
    print(page(figures))
    if before:
        print(f"\n{comparison(figures, before)}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    if given.pictures:
        print("\n".join(str(path) for path in draw(figures, given.pictures)))
    reasons: Iterator[str] = distrusted(figures)
    code = 0
    for reason in reasons:
        sys.stderr.write(f"bench: not to be trusted: {reason}\n")
        code = EXIT_DISTRUSTED
    return code


if __name__ == "__main__":
    sys.exit(main())
