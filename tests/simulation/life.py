"""One simulated world from its first order until everybody knows all, and then judged."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

from libs.events.errors import LogUnavailable
from libs.events.ids import START
from libs.events.log import EventLog, Idempotency
from libs.events.reactions import TERMINAL
from services.gateway.commands import OutcomeUndecided, Replayed, place
from tests.builders import a_request
from tests.simulation.world import BEGAN, PARTITIONS, USERS, Process, Seen, World
from tests.verdict import Evidence, Verdict, judge, shown

ORDERS = 2
ROUGH_S = 2.5
ENDS_WITHIN_S = 120.0


async def keep_alive(world: World, start: Callable[[Process], Callable[[str], Awaitable[None]]], name: str) -> None:
    """Start it again and again; while times are rough it is killed or frozen in the middle of whatever it does."""
    life = 0
    while True:
        process, life = Process(world), life + 1
        task = asyncio.ensure_future(start(process)(name if world.chance.random() < 0.5 else f"{name}-{life}"))
        try:
            while not task.done():
                await asyncio.wait([task], timeout=world.chance.uniform(0.05, 1) if world.rough else None)
                if world.rough and not task.done():
                    if world.chance.random() < 0.6:
                        break
                    process.gate.clear()
                    await asyncio.sleep(world.chance.random() * 2.5)
                    process.gate.set()
        finally:
            task.cancel()
            (ended,) = await asyncio.gather(task, return_exceptions=True)
        if ended is not None and not isinstance(ended, asyncio.CancelledError):
            world.died.append(ended)
        await asyncio.sleep(world.chance.random() * 0.5)


async def client(world: World, user: str, number: int) -> None:
    """Asks under one key until there is an answer, as clients should."""
    key, gate = f"key-{number}", asyncio.Event()
    gate.set()
    log = cast("EventLog", Seen(world, world.log, gate, LogUnavailable))
    await asyncio.sleep(world.chance.random() * ROUGH_S / 2)
    again = world.chance.random() < 0.3
    while True:
        step, made = a_request(PARTITIONS, user, Idempotency(key, "same"), expires_at=BEGAN + timedelta(days=1))
        try:
            replayed = await place(log, step)
        except (LogUnavailable, OutcomeUndecided):
            await asyncio.sleep(0.1)
            continue
        order = replayed.order_id if isinstance(replayed, Replayed) else made.order.id
        if world.promised.setdefault(f"{user}/{key}", order) != order:
            world.contradictions.append(f"{key}: {order} and {world.promised[f'{user}/{key}']}")
        if not again:
            return
        again = False


async def live_through(seed: int) -> tuple[World, Verdict]:
    """One world, from its first order until all is told; what it left, judged."""
    world = World(seed)
    names = {
        "router-a": lambda process: process.router,
        "router-b": lambda process: process.router,
        "executor-a": lambda process: process.executor,
        "executor-b": lambda process: process.executor,
        "projector": lambda process: process.projector,
        "notifier": lambda process: process.notifier,
    }
    running = [asyncio.create_task(keep_alive(world, start, name)) for name, start in names.items()]
    clients = [asyncio.create_task(client(world, USERS[n % len(USERS)], n)) for n in range(ORDERS)]
    with suppress(TimeoutError):
        async with asyncio.timeout(ENDS_WITHIN_S):
            await asyncio.sleep(ROUGH_S)
            world.rough = False
            await asyncio.gather(*clients)
            while not await everybody_knows(world):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return world, await judged(world)


async def everybody_knows(world: World) -> bool:
    """Every order has ended, Postgres has it, and every socket shows it."""
    held = await world.log.find_many(list(world.promised.values()))
    if len(held) < len(set(world.promised.values())) or any(h.order.status not in TERMINAL for h in held.values()):
        return False
    points = await world.projection.checkpoints()
    for number in range(PARTITIONS):
        if number not in points or points[number].at != await world.log.tip(number):
            return False
    return all(_shows(world.live.get(now.order.user, ()), order, now.order.version) for order, now in held.items())


def _shows(transcript: Any, order_id: str, version: int) -> bool:
    return shown(transcript).get(order_id) == version


async def judged(world: World) -> Verdict:
    entries = await world.log.read(dict.fromkeys(range(PARTITIONS), START), 10**6, 0)
    verdict = judge(
        Evidence(
            entries,
            world.promised,
            [*world.contradictions, *map(repr, world.died)],
            world.chain.settled(),
            world.projection.orders,
            sorted(world.projection.entries, key=lambda entry: (entry.partition, entry.at)),
            world.transcripts,
        )
    )
    if not await everybody_knows(world):
        verdict["stuck"].append("somebody was not told everything")
    return verdict
