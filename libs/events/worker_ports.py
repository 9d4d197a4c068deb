"""What a worker needs of the process it runs in."""

from typing import Protocol

from libs.events.log import Commits
from libs.events.work import Work


class WorkerLog(Commits, Work, Protocol):
    """The part of the log a worker uses."""


class HealthReporter(Protocol):
    """Where a worker says whether it can work; `libs.service.health.Health` is one."""

    def ok(self, need: str) -> None: ...

    def trouble(self, need: str, reason: str) -> None: ...
