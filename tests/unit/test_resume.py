"""Reading on from a cursor while the log grows."""

from collections.abc import Mapping

import pytest

from libs.events.errors import PositionGap, Trimmed
from libs.events.ids import Position
from libs.events.log import Committed, Entry, Only
from libs.events.memory_log import MemoryLog
from libs.orders.resume import NotResumable, pages_after
from tests.builders import a_request, routing_started, then


class GrowingLog(MemoryLog):
    """Gets another order between the look at its end and the read."""

    async def tip(self, partition: int) -> Position:
        at = await super().tip(partition)
        step, now = a_request(1)
        await self.commit(step)
        await self.commit(then(now, routing_started())[0])
        return at


async def test_what_is_written_meanwhile_is_no_reason_to_stop() -> None:
    log = GrowingLog(1)
    await log.tip(0)
    pages = [entries async for entries, _ in pages_after(log, "user-1", Position(0, 0), 100)]
    assert [entry.at.position for page in pages for entry in page] == [1, 2, 3, 4]


async def test_a_read_never_asks_for_what_it_has() -> None:
    asked: list[Mapping[int, Position]] = []

    class Watched(GrowingLog):
        async def read(
            self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
        ) -> list[Entry]:
            asked.append(dict(after))
            return await super().read(after, count, block_ms, only)

    log = Watched(1)
    await log.tip(0)
    async for _ in pages_after(log, "user-1", Position(0, 0), 100):
        pass
    assert len(asked) == 1


async def test_only_ones_own_events_are_told_whoevers_is_the_last() -> None:
    log = MemoryLog(1)
    for user in ("user-1", "user-2", "user-1", "user-2"):
        assert isinstance(await log.commit(a_request(1, user)[0]), Committed)
    for user, own in (("user-1", [1, 3]), ("user-2", [2, 4]), ("user-3", [])):
        pages = [page async for page in pages_after(log, user, Position(0, 0), 100)]
        assert [entry.at.position for entries, _ in pages for entry in entries] == own
        assert pages[-1][1] == await log.tip(0)


@pytest.mark.parametrize("found", [Trimmed(0, 1, 3), PositionGap(0, 1, 3), None], ids=["trimmed", "a hole", "nothing"])
async def test_where_what_followed_is_gone_that_is_said_and_nothing_passed_over(found: Exception | None) -> None:
    class Gone(MemoryLog):
        async def read(
            self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
        ) -> list[Entry]:
            if found:
                raise found
            return []

    log = Gone(1)
    assert isinstance(await log.commit(a_request(1)[0]), Committed)
    with pytest.raises(NotResumable):
        async for _ in pages_after(log, "user-1", Position(0, 0), 100):
            pass


async def test_a_place_beyond_the_end_is_none() -> None:
    log = MemoryLog(1)
    assert isinstance(await log.commit(a_request(1)[0]), Committed)
    with pytest.raises(NotResumable):
        async for _ in pages_after(log, "user-1", Position(0, 2), 100):
            pass
