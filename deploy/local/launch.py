"""The steps of bringing a stack up, one function each."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

from deploy.local.folders import Folders
from deploy.local.plan import Plan, check_given
from deploy.local.postgres_server import planned_postgres
from deploy.local.processes import Command, Spawn, how_it_ended
from deploy.local.redis_server import planned_redis
from deploy.local.stores import STOP_WITHIN_S, Store
from deploy.local.supervisor import Supervised, Tell
from libs.service.settings import ConfigurationError

SAY_EVERY_S = 10
READY_WITHIN_S = 60


async def start_stores(
    environ: Mapping[str, str], folders: Folders, undo: AsyncExitStack, tell: Tell, *, durable: bool
) -> tuple[dict[str, Store], list[Supervised]]:
    """Redis and Postgres at once, because Postgres takes its time on the first run.

    `undo` gets what stops them. Raises ConfigurationError when one cannot be had.
    """
    stores: dict[str, Store] = {}
    kept: list[Supervised] = []

    async def start(name: str, planned: AbstractAsyncContextManager[Plan], entering: AsyncExitStack) -> None:
        plan = await entering.enter_async_context(planned)
        if plan.command is None:
            stores[name] = Store(plan.url, plan.rung, await check_given(plan, plan.name), None)
            return
        version = ""

        async def check() -> None:
            nonlocal version
            version = await plan.check()

        one = Supervised(plan.command, check, tell, must_start=True)
        kept.append(one)
        one.start()
        await until_up([one], tell, one.command.log.parent)
        stores[name] = Store(plan.url, plan.rung, version, one.process.pid if one.process else None)

    async def stop() -> None:
        await asyncio.gather(*(one.stop(STOP_WITHIN_S) for one in kept))

    # Two of them, because two tasks enter side by side; left after `stop`, when the servers let go of their folders.
    held = [await undo.enter_async_context(AsyncExitStack()) for _ in range(2)]
    undo.push_async_callback(stop)
    redis = planned_redis(environ, folders, durable=durable)
    postgres = planned_postgres(environ, folders, durable=durable)
    await all_or_first_failure(start("redis", redis, held[0]), start("postgres", postgres, held[1]))
    return stores, kept


async def until_up(started: Sequence[Supervised], tell: Tell, logs: Path) -> None:
    """Wait until all are ready, however long a file is read or a log restored, and say what is waited for.

    Raises:
        ConfigurationError: one can never be, or ends again and again.
    """
    for waited_s in count(SAY_EVERY_S, SAY_EVERY_S):
        try:
            async with asyncio.timeout(SAY_EVERY_S):
                await all_or_first_failure(*(one.until_ready() for one in started))
                return
        except TimeoutError:
            late = [one for one in started if not one.ready.is_set()]
            if waited_s >= READY_WITHIN_S and any(one.restarts > 1 for one in late):
                raise not_in_time(late, logs) from None
            why = "; ".join(f"{one.name}: {one.not_ready_because}" for one in late)
            tell(f"still waiting for {why}; logs: {logs}")


def not_in_time(late: Sequence[Supervised], logs: Path) -> ConfigurationError:
    why = "; ".join(f"{one.name}: {one.last_end or one.not_ready_because}" for one in late)
    return ConfigurationError(f"not ready within {READY_WITHIN_S} s: {why}; logs: {logs}")


async def run_migrations(
    argv: Sequence[str], folders: Folders, environ: Mapping[str, str], spawn: Spawn, tell: Tell
) -> None:
    """Prepare the database. Raises ConfigurationError when that fails."""
    log = folders.log("migrate")
    done = spawn(Command("migrate", argv, log, environ))
    while done.running:
        try:
            await asyncio.wait_for(done.exited(), SAY_EVERY_S)
        except TimeoutError:
            tell(f"still waiting for the migrations; log: {log}")
    if code := await done.exited():
        raise ConfigurationError(f"migrations failed: {done.last_line() or how_it_ended(code)}; log: {log}")


async def all_or_first_failure(*work: Awaitable[Any]) -> None:
    """Wait for all; when one fails, give up the others at once and raise its error as it is."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
