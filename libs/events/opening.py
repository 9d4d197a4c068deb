"""The first contact with the log: a process may be there before its Redis is."""

import asyncio
from typing import Protocol

import structlog

from libs.events.errors import LogMismatch, LogNotOpen, LogReplaced, LogUnavailable
from libs.events.pausing import pause
from libs.events.worker_limits import WorkerLimits, jittered
from libs.events.worker_ports import HealthReporter

NOT_OPEN_PAUSE_S = 0.1


def pause_s(error: Exception, usual_s: float) -> float:
    """How long to wait before the next look: a log that only has to be opened opens in a moment, and all wait."""
    return min(usual_s, NOT_OPEN_PAUSE_S) if isinstance(error, LogNotOpen) else usual_s


class Works(Protocol):
    """A worker that runs until it is stopped, or its log is another one."""

    async def run(self, stop: asyncio.Event) -> None: ...


class Starts(Protocol):
    """The part of a log that prepares it."""

    async def start(self) -> None: ...


async def keep_working(
    log: Starts, worker: Works, health: HealthReporter, limits: WorkerLimits, stop: asyncio.Event
) -> None:
    """Start the log and work on it until `stop`; when it was replaced (repaired, restored), start it again.

    Raises:
        LogMismatch: this is not the log we were made for.
    """
    while await started(log, health, limits, stop):
        try:
            await worker.run(stop)
        except LogReplaced as error:
            structlog.get_logger().warning("log_replaced", reason=str(error))
        else:
            return


async def started(log: Starts, health: HealthReporter, limits: WorkerLimits, stop: asyncio.Event) -> bool:
    """Start the log as soon as it can be reached. False: `stop` was set before.

    Raises:
        LogMismatch: this is not the log we were made for.
    """
    failures = 0
    while not stop.is_set():
        try:
            await log.start()
        except LogMismatch:
            raise
        except LogUnavailable as error:
            failures += 1
            health.trouble("log", str(error))
            if not isinstance(error, LogNotOpen):  # every start begins with that one
                structlog.get_logger().warning("log_unavailable", reason=str(error), failures=failures)
            await pause(pause_s(error, jittered(failures, limits)), stop)
        else:
            health.ok("log")
            return True
    return False
