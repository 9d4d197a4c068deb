"""The wait for the log at a start: short when it only has to be opened, longer and longer when its Redis is away."""

import asyncio

import pytest

from libs.events.errors import LogNotOpen, LogUnavailable
from libs.events.opening import NOT_OPEN_PAUSE_S, pause_s, started
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health


class Opening:
    """A log that can be started after so many tries."""

    def __init__(self, tries: int, error: Exception) -> None:
        self.left, self.error = tries, error

    async def start(self) -> None:
        self.left -= 1
        if self.left >= 0:
            raise self.error


def test_a_log_that_only_has_to_be_opened_is_looked_at_again_soon() -> None:
    assert pause_s(LogNotOpen("being checked"), 5.0) == NOT_OPEN_PAUSE_S
    assert pause_s(LogNotOpen("being checked"), 0.01) == 0.01
    assert pause_s(LogUnavailable("away"), 5.0) == 5.0


@pytest.mark.parametrize(("error", "warnings"), [(LogNotOpen("being checked"), 0), (LogUnavailable("away"), 3)])
async def test_what_every_start_begins_with_is_no_warning(
    error: Exception, warnings: int, capsys: pytest.CaptureFixture[str]
) -> None:
    health = Health("log")
    limits = WorkerLimits(retry_base_s=0.001, retry_cap_s=0.001)
    assert await started(Opening(3, error), health, limits, asyncio.Event())
    assert health.ready
    assert capsys.readouterr().out.count("log_unavailable") == warnings
