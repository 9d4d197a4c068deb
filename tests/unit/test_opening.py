"""The wait for the log at a start: short when it only has to be opened, longer and longer when its Redis is away."""

import asyncio

import pytest

from libs.events.errors import LogMismatch, LogNotOpen, LogReplaced, LogUnavailable
from libs.events.opening import NOT_OPEN_PAUSE_S, keep_working, pause_s, started
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health
from tests.waiting import eventually


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


class Works:
    """A worker whose runs end one after the other as told: with an error, or because it was told to stop."""

    def __init__(self, *ends: Exception | None) -> None:
        self.ends, self.runs = ends, 0

    async def run(self, stop: asyncio.Event) -> None:
        self.runs += 1
        if error := self.ends[self.runs - 1]:
            raise error


async def test_a_log_that_was_replaced_is_started_again_and_worked_on() -> None:
    log, worker = Opening(0, LogUnavailable("away")), Works(LogReplaced("another epoch"), LogReplaced("again"), None)
    await keep_working(log, worker, Health("log"), WorkerLimits(), asyncio.Event())
    assert (worker.runs, log.left) == (3, -3)


async def test_a_log_that_is_not_the_one_we_were_made_for_ends_the_work() -> None:
    mismatch = LogMismatch("set PARTITIONS to match")
    with pytest.raises(LogMismatch):
        await keep_working(Opening(1, mismatch), Works(), Health("log"), WorkerLimits(), asyncio.Event())
    with pytest.raises(LogMismatch):
        await keep_working(Opening(0, mismatch), Works(mismatch), Health("log"), WorkerLimits(), asyncio.Event())


async def test_who_is_told_to_stop_before_the_log_is_there_does_not_begin() -> None:
    stop, worker, health = asyncio.Event(), Works(), Health("log")
    away = Opening(10**6, LogUnavailable("away"))
    keeping = asyncio.create_task(keep_working(away, worker, health, WorkerLimits(retry_base_s=0.001), stop))
    await eventually(lambda: health.reasons == {"log": "away"})
    stop.set()
    await asyncio.wait_for(keeping, 30)
    assert worker.runs == 0
