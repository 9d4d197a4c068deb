"""Whether the gateway has what it needs: asked again and again, because stores come and go."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from libs.events.errors import EventLogError, LogMismatch, LogNotOpen, LogUnavailable
from libs.events.ids import Position
from libs.events.opening import pause_s
from libs.service.health import Health
from services.gateway import observe
from services.gateway.accounts import Accounts, DatabaseUnavailable
from services.gateway.limits import BACKOFF_FIRST_S, BACKOFF_MAX_S, CHECK_EVERY_S

LOG, DATABASE = "log", "database"


class Log(Protocol):
    """A log that must be started, and started again when it is another one."""

    async def start(self) -> None: ...

    @property
    def partitions(self) -> int: ...

    async def tip(self, partition: int) -> Position: ...


async def watch(log: Log, log_open: asyncio.Event, accounts: Accounts, health: Health) -> None:
    """Keep `health` true until cancelled. `log_open` is set while the log is the one this process knows."""

    async def check_log() -> None:
        try:
            if log_open.is_set():
                await _some_tip(log)
            else:
                await log.start()
                log_open.set()
        except LogMismatch:
            log_open.clear()
            raise

    async with asyncio.TaskGroup() as group:
        group.create_task(_keep(LOG, check_log, health))
        group.create_task(_keep(DATABASE, accounts.check, health))


async def _some_tip(log: Log) -> None:
    """See that a part of the log answers: with one node of a cluster away, the others' orders still go in."""
    try:
        await log.tip(0)
    except LogUnavailable:
        others = map(log.tip, range(1, log.partitions))
        if all(isinstance(found, LogUnavailable) for found in await asyncio.gather(*others, return_exceptions=True)):
            raise


async def _keep(need: str, check: Callable[[], Awaitable[None]], health: Health) -> None:
    failures = 0
    while True:
        try:
            await check()
        except (EventLogError, DatabaseUnavailable) as error:
            failures += 1
            health.trouble(need, str(error))
            # Half of the pause is chance: gateways that lost a store together must not come back together.
            jitter = random.uniform(0.5, 1)  # noqa: S311 - spreads load, guards nothing
            usual_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(failures, 10)) * jitter
            wait_s = pause_s(error, usual_s)
            if not isinstance(error, LogNotOpen):  # every start begins with that one
                observe.need_away(need, str(error), wait_s)
        else:
            if failures:
                observe.need_back(need)
            failures, wait_s = 0, CHECK_EVERY_S
            health.ok(need)
        await asyncio.sleep(wait_s)
