"""Many seeds, on every core: `python -m tests.simulation.runs --seeds 100000`. Exit code 1: one broke a promise."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import structlog

from tests.simulation.life import live_through
from tests.simulation.loop import simulate
from tests.simulation.world import World
from tests.verdict import Verdict, kept

SEEDS_PER_TASK = 20


def silence() -> None:
    """No log lines: there are thousands a second."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def run_seed(seed: int) -> tuple[World, Verdict]:
    """One world."""
    return simulate(lambda: live_through(seed), seed)


def broken_of(first: int, count: int) -> dict[int, dict[str, list[str]]]:
    """The seeds of a range that broke a promise, with what broke."""
    silence()
    found = {}
    for seed in range(first, first + count):
        _, verdict = run_seed(seed)
        if not kept(verdict):
            found[seed] = {promise: what[:3] for promise, what in verdict.items() if what}
    return found


def run_seeds(first: int, count: int) -> Iterator[dict[int, dict[str, list[str]]]]:
    """`broken_of` a range, a part at a time."""
    starts = range(first, first + count, SEEDS_PER_TASK)
    sizes = [min(SEEDS_PER_TASK, first + count - start) for start in starts]
    # A fork of a parallel test worker would hold, and speak on, the line by which that reports.
    pool = ProcessPoolExecutor(os.cpu_count(), get_context("spawn"))
    try:
        yield from pool.map(broken_of, starts, sizes)
    finally:
        pool.shutdown(cancel_futures=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.runs", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    broken = 0
    for part in run_seeds(given.first, given.seeds):
        broken += len(part)
        for seed, what in part.items():
            sys.stdout.write(f"seed {seed}: {what}\n")
    sys.stdout.write(f"{given.seeds} seeds, {broken} broke a promise\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
