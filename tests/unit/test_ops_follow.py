"""`swaplog events --follow` on a log in trouble."""

import asyncio
from collections.abc import Mapping

import pytest

from libs.events.errors import LogReplaced, LogUnavailable
from libs.events.ids import Position
from libs.events.log import Entry, Only, Snapshot
from libs.events.memory_log import MemoryLog
from services.ops.history import Selection, tips
from services.ops.output import Output, print_live
from services.ops.stack import EXIT_DIFFERS, Refusal, Stack, refusing
from tests.builders import a_request, routing_started, then
from tests.waiting import eventually


class TroubledLog(MemoryLog):
    """A log whose next answers are errors."""

    def __init__(self) -> None:
        super().__init__(1)
        self.reads: list[Exception] = []
        self.finds: list[Exception] = []

    async def read(
        self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
    ) -> list[Entry]:
        if self.reads:
            raise self.reads.pop()
        return await super().read(after, count, block_ms, only)

    async def find(self, order_id: str) -> Snapshot | None:
        if self.finds:
            raise self.finds.pop()
        return await super().find(order_id)


async def test_an_event_that_came_as_the_log_went_away_is_shown_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("services.ops.output.RETRY_S", 0)
    log, shown = TroubledLog(), ""
    first, order = a_request(1, "user-1")
    await log.commit(first)
    ends = await tips(log, [0])
    step, _ = then(order, routing_started())
    await log.commit(step)
    log.finds = [LogUnavailable("away")]
    stack = Stack(log, None)
    following = asyncio.create_task(print_live(stack, ends, Selection(), Output(stack, as_json=False, one_order=False)))

    def is_shown() -> bool:
        nonlocal shown
        shown += capsys.readouterr().out
        return "RoutingStarted" in shown

    await eventually(is_shown, what="the event", within_s=20)
    following.cancel()


async def test_who_follows_a_log_that_is_replaced_is_told_so() -> None:
    log = TroubledLog()
    stack, ends = Stack(log, None), await tips(log, [0])
    log.reads = [LogReplaced("the log has another epoch")]
    with pytest.raises(Refusal, match="another epoch") as refusal, refusing():
        await print_live(stack, ends, Selection(), Output(stack, as_json=True, one_order=False))
    assert refusal.value.code == EXIT_DIFFERS
