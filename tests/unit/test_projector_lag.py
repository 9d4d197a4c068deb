"""What the projector says of how far it is behind."""

import asyncio
from collections.abc import Mapping
from typing import cast

from prometheus_client import REGISTRY

from libs.events.errors import LogUnavailable
from libs.events.ids import START, Position
from libs.events.memory_log import MemoryLog
from libs.orders.batch import Batch
from libs.orders.store import Projection, StoreUnavailable
from libs.service.health import Health
from services.projector.handlers import Projector
from tests.builders import a_request
from tests.waiting import eventually


class OldLog(MemoryLog):
    """A log of long ago."""

    def __init__(self) -> None:
        super().__init__(1, lambda: 1_000)

    async def start(self) -> None:
        """It is there."""


class LosesReplies:
    """A projection whose batches are in Postgres, though nobody is told."""

    def __init__(self) -> None:
        self.at: Mapping[int, Position] = {0: START}
        self.resumed = 0

    async def resume(self, _epoch: str, _partitions: int) -> Mapping[int, Position]:
        self.resumed += 1
        return self.at

    async def trouble_ahead(self) -> str:
        return ""

    async def apply(self, _epoch: str, batch: Batch) -> Mapping[int, Position]:
        self.at = batch.until()
        assert _lag_s() > 1_000
        raise StoreUnavailable("the reply was lost")


class FullLog(OldLog):
    """It is read, and takes no reader's place."""

    async def register_reader(self, _name: str, _at: Mapping[int, Position]) -> None:
        raise LogUnavailable("it is full")


class Once:
    """A place that is ours, and another's ever after."""

    def __init__(self) -> None:
        self.asked = 0

    async def take(self) -> bool:
        self.asked += 1
        return self.asked == 1


class Restoring:
    """A log that lost much, until it is `done`."""

    def __init__(self) -> None:
        self.done = asyncio.Event()

    async def mend(self) -> None:
        await self.done.wait()

    async def glance(self, at: Mapping[int, Position]) -> set[int]:
        return set(at)


async def test_who_stands_by_says_nothing_of_what_was_when_the_place_was_his() -> None:
    log, projection, place, stop = FullLog(), LosesReplies(), Once(), asyncio.Event()
    health = Health("redis", "postgres")
    projector = Projector(log, cast("Projection", projection), health, seat=place)
    running = asyncio.create_task(projector.run(stop))
    await eventually(lambda: "it is full" in health.reasons.get("redis", ""), within_s=20)
    step, _ = a_request(1, "user-1")
    await log.commit(step)
    await eventually(lambda: place.asked > 1, what="it stands by", within_s=20)
    await eventually(lambda: health.ready, what="ready, as nothing is wrong with it", within_s=20)
    assert _lag_s() == 0
    assert REGISTRY.get_sample_value("swaplog_projection_lag_events", {"partition": "0"}) is None
    stop.set()
    await running


async def test_what_turns_out_to_be_projected_is_no_lag() -> None:
    log, projection, stop = OldLog(), LosesReplies(), asyncio.Event()
    step, _ = a_request(1, "user-1")
    await log.commit(step)
    running = asyncio.create_task(Projector(log, cast("Projection", projection), Health("redis", "postgres")).run(stop))
    await eventually(lambda: projection.resumed == 2, within_s=20)
    await eventually(lambda: _lag_s() == 0, what="no lag", within_s=10)
    stop.set()
    await running


async def test_while_the_log_is_restored_it_says_so() -> None:
    health, stop, restored = Health("redis", "postgres"), asyncio.Event(), Restoring()
    projector = Projector(OldLog(), cast("Projection", LosesReplies()), health, restored)
    running = asyncio.create_task(projector.run(stop))
    await eventually(lambda: "restored from the archive" in health.reasons.get("redis", ""), within_s=10)
    restored.done.set()
    await eventually(lambda: health.ready, within_s=20)
    stop.set()
    await running


def _lag_s() -> float:
    return REGISTRY.get_sample_value("swaplog_projection_lag_seconds") or 0
