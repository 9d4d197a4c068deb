"""The log, asked until it answers: a worker with an item in hand can do nothing else with it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from libs.events.crash import crossing
from libs.events.errors import EventLogError, LogMismatch
from libs.events.log import Outcome, Snapshot, Step
from libs.events.work import Item
from libs.events.worker_limits import WorkerLimits, jittered
from libs.events.worker_ports import HealthReporter, WorkerLog

T = TypeVar("T")


class PatientLog:
    """The same calls as the log's; of its errors only `LogMismatch` is raised. While it waits, `health` says so."""

    def __init__(self, log: WorkerLog, health: HealthReporter, limits: WorkerLimits) -> None:
        self._log, self._health, self._limits = log, health, limits

    async def commit(self, step: Step) -> Outcome:
        # After a lost reply the same step again answers "conflict" with what the log holds: nothing is assumed.
        return await self._until_answered(lambda: self._log.commit(step))

    async def find(self, order_id: str) -> Snapshot | None:
        with crossing("work.find"):
            return await self._until_answered(lambda: self._log.find(order_id))

    async def version(self, order_id: str) -> int:
        return await self._until_answered(lambda: self._log.version(order_id))

    async def count_delivery(self, item: Item) -> int:
        with crossing("work.count"):
            return await self._until_answered(lambda: self._log.count_delivery(item))

    async def park(self, item: Item, reason: str, fingerprint: str) -> bool:
        with crossing("work.park"):
            return await self._until_answered(lambda: self._log.park(item, reason, fingerprint))

    async def _until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                return await call()
            except LogMismatch:
                raise
            except EventLogError as error:
                failures += 1
                self._health.trouble("log", str(error))
                await asyncio.sleep(jittered(failures, self._limits))
