"""The events of the log and the archive as one sequence, page by page."""

import heapq
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from libs.events.errors import PositionGap
from libs.events.ids import Position
from libs.events.log import Entry, Reads
from libs.orders.archived import ArchivedReads, position_before
from libs.orders.store import OrderStore

PAGE = 256
FOLLOW_BLOCK_MS = 1_000
END_OF_TIME_MS = 2**53


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events are wanted; times are the commit's, in ms since 1970, `until_ms` not included."""

    since_ms: int = 0
    until_ms: int = END_OF_TIME_MS
    user: str | None = None
    types: frozenset[str] = frozenset()
    order_id: str | None = None

    def wants(self, entry: Entry) -> bool:
        fields = entry.fields
        return (
            self.since_ms <= entry.at.ms < self.until_ms
            and (self.user is None or fields.get("user") == self.user)
            and (not self.types or fields.get("type") in self.types)
            and (self.order_id is None or fields.get("subject") == self.order_id)
        )


async def past(
    log: Reads, store: OrderStore | None, until: Mapping[int, Position], selection: Selection
) -> AsyncIterator[Entry]:
    """Wanted events up to the positions `until`, all partitions merged by time.

    Raises:
        PositionGap: neither the log nor the archive has an entry.
    """
    streams = [_partition(log, store, partition, end, selection) for partition, end in until.items()]
    heads: list[tuple[Position, int, Entry]] = []
    for number, stream in enumerate(streams):
        await _push(heads, number, stream)
    while heads:
        _, number, entry = heapq.heappop(heads)
        await _push(heads, number, streams[number])
        if selection.wants(entry):
            yield entry


async def live(log: Reads, after: Mapping[int, Position], selection: Selection) -> AsyncIterator[Entry]:
    """Wanted events as they happen, for ever.

    Raises:
        LogUnavailable, PositionGap
    """
    at = dict(after)
    while True:
        entries = await log.read(at, PAGE, FOLLOW_BLOCK_MS)
        for entry in sorted(entries, key=lambda entry: (entry.at, entry.partition)):
            at[entry.partition] = entry.at
            if selection.wants(entry):
                yield entry


async def tips(log: Reads, partitions: Sequence[int]) -> dict[int, Position]:
    """Where the log of each partition ends now."""
    return {partition: await log.tip(partition) for partition in partitions}


async def first_archived(store: OrderStore, partition: int) -> Entry | None:
    """Where the archive of the partition begins: not with its first event, when an old leaf was let go."""
    return next(iter(await store.archived(partition, 0, 1)), None)


async def _push(heads: list[tuple[Position, int, Entry]], number: int, stream: AsyncIterator[Entry]) -> None:
    entry = await anext(stream, None)
    if entry:
        # Positions of two partitions may be equal, but then the numbers differ: entries are never compared.
        heapq.heappush(heads, (entry.at, number, entry))


async def _partition(
    log: Reads, store: OrderStore | None, partition: int, end: Position, selection: Selection
) -> AsyncIterator[Entry]:
    # In this order: were the log trimmed between the two looks, the archive would be read the further.
    since = await _before_log(log, partition, end, selection.since_ms)
    at = await _before_log(log, partition, end, 0)
    if store:
        async for entry in _archived(store, partition, at.position, selection.since_ms):
            if entry.at.ms >= selection.until_ms:
                return
            yield entry
    at = max(at, since, key=lambda place: place.position)
    # A long story outlives the log it was begun from: what is let go of meanwhile is in the archive.
    reads = ArchivedReads(log, store) if store else log
    while at.position < end.position and at.ms < selection.until_ms:
        entries = await reads.read({partition: at}, PAGE, 0)
        for entry in entries:
            at = entry.at
            if at.position <= end.position:
                yield entry
        if not entries:
            return


async def _before_log(log: Reads, partition: int, end: Position, since_ms: int) -> Position:
    """After which position the log's entries of `since_ms` and later begin; `end` if it has none of them."""
    before = Position(max(0, since_ms - 1), 0)
    try:
        return before if await log.read({partition: before}, 1, 0) else end
    except PositionGap as gap:
        # Ids begin with their time, so reading from a time is reading from an unknown position: the log names it.
        return Position(before.ms, gap.found - 1)


async def _archived(store: OrderStore, partition: int, until: int, since_ms: int) -> AsyncIterator[Entry]:
    """Archived entries of `since_ms` and later up to position `until`: what the log has let go of."""
    after = await position_before(store, partition, since_ms, until) if since_ms else 0
    while after < until:
        entries = await store.archived(partition, after, min(PAGE, until - after))
        for entry in entries:
            # With nothing before it the archive begins there: old leaves of it may be let go, not what follows.
            if entry.at.position != after + 1 and after:
                raise PositionGap(partition, after + 1, entry.at.position)
            after = entry.at.position
            if after <= until:
                yield entry
        if not entries:
            raise PositionGap(partition, after + 1, until + 1)
