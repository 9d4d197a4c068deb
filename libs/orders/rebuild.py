"""Blue and green: the projection is folded again from the archive into tables beside the live ones, compared with them
row by row, and put in their place in one transaction. Orders flow meanwhile; what was live stays for a rollback.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg

from libs.orders.locks import Lock, alone
from libs.orders.rebuild_report import Report
from libs.orders.shadow import NEXT, PREVIOUS, RebuildRefused, Shadow, Side
from libs.orders.store import StoreUnavailable, open_store


@asynccontextmanager
async def open_rebuild(dsn: str, side: Side = NEXT) -> AsyncIterator[Shadow]:
    """The one rebuild of a database.

    Raises:
        StoreUnavailable: another one runs.
        RebuildRefused: this user of the database may not do it.
    """
    try:
        async with (
            open_store(dsn) as live,
            open_store(dsn, side.schema) as shadow,
            alone(live, Lock.REBUILD, "another rebuild is running"),
        ):
            yield Shadow(live, shadow, side)
    except StoreUnavailable as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            raise RebuildRefused(f"{error}; come as the user who owns the database") from error
        raise


async def rebuild(
    dsn: str, *, switch: bool = False, accept: bool = False, progress: Callable[[int], None] = lambda _: None
) -> Report:
    """Fold everything again (or go on with it), compare, and switch if that is asked for.

    Raises:
        RebuildRefused, StoreUnavailable, PositionGap
    """
    report, began = Report(), time.monotonic()
    async with open_rebuild(dsn) as work:
        await work.begin()
        report.events = await work.catch_up(progress)
        compared_at = await work.compare(report)
        if switch:
            await work.catch_up()
            await work.switch(compared_at, report, accept=accept)
    report.seconds = time.monotonic() - began
    return report


async def roll_back(dsn: str) -> Report:
    """What was live before the last switch is live again, brought up to date first.

    Raises:
        RebuildRefused: there is nothing to go back to.
    """
    report, began = Report(), time.monotonic()
    async with open_rebuild(dsn, PREVIOUS) as work:
        await work.check_fit()
        report.events = await work.catch_up()
        await work.switch(None, report, accept=True)
    report.seconds = time.monotonic() - began
    return report


async def drop(dsn: str, side: Side) -> None:
    """Remove a side's tables and its checkpoints."""
    async with open_rebuild(dsn, side) as work:
        await work.drop()
