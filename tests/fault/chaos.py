"""Orders while everything breaks: `make chaos`, or `python -m tests.fault.chaos --orders 20000 --seed 1`.

Ends when every order has ended after the last fault, and judges everything the run left. Exit code 1: a promise broke.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local import supervisor
from deploy.local.stack import Stack
from libs.events.errors import EventLogError
from libs.events.ids import START
from libs.events.reactions import STATUS_AFTER, TERMINAL
from libs.events.redis_log import open_redis_log
from tests.checker import collect, histories, statuses
from tests.fault.chaos_faults import Chaos
from tests.fault.chaos_report import ChaosReport, table, takeovers
from tests.fault.traffic import FaultyClient, History, Watcher, signed_up_somehow, until_cancelled
from tests.verdict import judge
from tests.waiting import ended, eventually

ENVIRONMENT = {
    "PORT": "0",
    "NOTIFIER_PORT": "0",
    "LOCALNET_PORT": "0",
    "LOCALNET_SLOT_MS": "20",
    "RETRY_BASE_MS": "50",
    "RETRY_CAP_MS": "500",
    "DRAIN_S": "3",
    "ATTEMPTS_MAX": "50",  # the world outside is away for seconds; a client would not want his order given up for that
    "ROUTERS": "2",
    "EXECUTORS": "2",
    "LOG_KEEP_S": "86400",  # the judge reads the whole log
}
USERS = 8
SPLIT_EVERY, SPLIT = 25, {"tokenIn": "BTC", "tokenOut": "SOL", "amount": "150"}  # large enough for two venues
ENDS = frozenset(event.__name__ for event, status in STATUS_AFTER.items() if status in TERMINAL)
CAUGHT_UP_WITHIN_S = 120


@dataclass(frozen=True)
class ChaosPlan:
    """`rate`: orders per second; what trouble delayed is made up for. None is placed after `seconds_max`."""

    orders: int
    seed: int
    rate: float
    seconds_max: float
    clients: int = 48
    long_pauses: bool = True


async def run_chaos(plan: ChaosPlan, folder: Path) -> ChaosReport:
    """A run and its judgement."""
    async with chaotic_stack(folder) as stack, AsyncExitStack() as undo:
        history, began = History(), time.monotonic()
        clients = [await undo.enter_async_context(signed_up_somehow(stack.base_url, history)) for _ in range(USERS)]
        watchers = [Watcher(client.session, stack.base_url) for client in clients]
        watching = [asyncio.create_task(watcher.run()) for watcher in watchers]
        undo.push_async_callback(ended, watching)
        chaos = Chaos(stack, plan.seed, long_pauses=plan.long_pauses)
        harm = asyncio.create_task(chaos.run())
        try:
            await place(plan, clients, harm)
        finally:
            await ended([harm])
            await chaos.heal()
        await all_ended(stack, set(history.promised.values()))
        took_s = time.monotonic() - began
        await ended(watching)
        transcripts = [transcript for watcher in watchers for transcript in watcher.transcripts]
        evidence = await collect(stack, history.promised, [*history.contradictions, *history.hung], transcripts)
        return ChaosReport(
            plan_seed=plan.seed,
            seconds=took_s,
            faults=chaos.done,
            operations=history.summary(),
            verdict=judge(evidence),
            statuses=statuses(histories(evidence.entries)),
            events=len(evidence.entries),
            sockets=len(transcripts),
            takeovers=takeovers(chaos.done, evidence.entries),
            parked=await parked(stack),
        )


@asynccontextmanager
async def chaotic_stack(folder: Path) -> AsyncIterator[Stack]:
    """Two of each worker; what dies comes back at once, however often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "RESTART_FIRST_S", 0.05)
        patch.setattr(supervisor, "RESTART_CAP_S", 0.5)
        async with Stack(folder, env=ENVIRONMENT, durable=True) as stack:
            yield stack


async def place(plan: ChaosPlan, clients: list[FaultyClient], harm: asyncio.Task[None]) -> None:
    """Orders from every client at once, each placed until it is accepted; lists are read meanwhile."""
    left, began = iter(range(plan.orders)), time.monotonic()

    async def orders(client: FaultyClient) -> None:
        for number in left:
            if time.monotonic() > began + plan.seconds_max:
                return
            await asyncio.sleep(began + number / plan.rate - time.monotonic())
            await client.accepted(**(SPLIT if number % SPLIT_EVERY == 0 else {"amount": "0.1"}))
            if harm.done():
                harm.result()

    lists = [asyncio.create_task(until_cancelled(client.list, 0.5)) for client in clients]
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(plan.clients):
                group.create_task(orders(clients[number % len(clients)]))
    finally:
        await ended(lists)


async def all_ended(stack: Stack, wanted: set[str]) -> None:
    """Wait until the log holds the end of every order; one that never ends is for the judge."""
    async with open_redis_log(stack.redis_url, stack.settings.partitions) as log:
        after, left = dict.fromkeys(range(log.partitions), START), set(wanted)

        async def none_left() -> bool:
            with suppress(EventLogError):
                while page := await log.read(after, 1_000, 0):
                    after.update({entry.partition: entry.at for entry in page})
                    left.difference_update(entry.fields["subject"] for entry in page if entry.fields["type"] in ENDS)
            return not left

        with suppress(AssertionError):
            await eventually(none_left, within_s=CAUGHT_UP_WITHIN_S, poll_s=0.2)


async def parked(stack: Stack) -> Counter[str]:
    """Why items were set aside; none should be: nothing here is poisonous."""
    async with open_redis_log(stack.redis_url, stack.settings.partitions) as log:
        return Counter(f"{item.service}: {item.reason}" for item in await log.parked(10_000))


def main() -> int:
    """Run, print the table, say with the exit code whether every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.chaos", description=__doc__)
    parser.add_argument("--orders", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1, help="the order of the faults")
    parser.add_argument("--rate", type=float, default=50, help="orders per second")
    parser.add_argument("--seconds", type=float, default=1_500, help="place no orders after that")
    parser.add_argument("--keep", type=Path, help="leave stores and logs in this folder")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    given = parser.parse_args()
    plan = ChaosPlan(given.orders, given.seed, given.rate, given.seconds)
    with ExitStack() as undo:
        folder = given.keep or Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="swaplog-chaos-")))
        report = asyncio.run(run_chaos(plan, folder / "data"))
    sys.stdout.write(table(report))
    if given.json:
        given.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    return 0 if report.kept else 1


if __name__ == "__main__":
    sys.exit(main())
