"""Reading on from a cursor while the log grows."""

from collections.abc import Mapping

from libs.events.ids import Position
from libs.events.log import Entry, Only
from libs.events.memory_log import MemoryLog
from libs.orders.resume import pages_after
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
