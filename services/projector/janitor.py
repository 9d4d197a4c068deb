"""Keeps the log small: what is archived, read by everybody and old enough leaves Redis."""

import math
import time
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice

from libs.events.ids import START, Position
from libs.events.log import Entry
from libs.events.reactions import STATUS_AFTER, TERMINAL
from libs.events.upkeep import READER_EXPIRES_S, TIGHT_FROM, Pressure, Reader, TrimmableLog
from services.projector import observe

SWEEP_EVERY_S = 5.0
# However full Redis is: a socket that lost its connection comes back within this time, and finds its place.
RESUME_WINDOW_S = 60
# Clients ask for an order most often right after it ended; later Postgres answers.
ENDED_KEPT_S = 60
RETIRED_PER_CALL = 500


def keep_from(archived: Position, readers: Iterable[Reader], floor_ms: int, old: Position = START) -> Position:
    """The oldest entry that must stay: of the archived ones the last, and what a reader or the floor still needs.

    A reader at a position has that entry, and needs the next; its own stays as well, to be safe.
    What is before `old` is below the floor whatever its time says.
    """
    needed = [reader.at for reader in readers if reader.silent_s <= READER_EXPIRES_S]
    return min([archived, max(Position(floor_ms, 0), old), *needed])


ENDS = frozenset(event.__name__ for event, status in STATUS_AFTER.items() if status in TERMINAL)


class Janitor:
    """One for the log: it works where the checkpoints are made."""

    def __init__(self, log: TrimmableLog, *, keep_s: float, memory_max_bytes: int) -> None:
        """`keep_s`: how long an entry stays after it was archived, while there is room."""
        self._log, self._keep_s, self._memory_max_bytes = log, keep_s, memory_max_bytes
        self._swept_at = 0.0
        self._evicts, self._tight = "", False
        self._ended: deque[tuple[float, str]] = deque()
        self._reached: deque[tuple[float, Mapping[int, Position]]] = deque()

    def archived(self, entries: Iterable[Entry]) -> None:
        """What is in Postgres now: orders that ended in it will be let go."""
        due = time.monotonic() + ENDED_KEPT_S
        self._ended.extend((due, entry.fields["subject"]) for entry in entries if entry.fields["type"] in ENDS)

    async def sweep(self, archived: Mapping[int, Position]) -> None:
        """Trim these partitions, if it is time again. `archived`: how far Postgres is.

        Raises:
            LogUnavailable: Redis is away, or being checked.
        """
        if time.monotonic() - self._swept_at < SWEEP_EVERY_S:
            return
        self._swept_at = time.monotonic()
        readers = await self._log.readers()
        for reader in readers:
            if reader.silent_s > READER_EXPIRES_S:
                await self._log.forget_reader(reader)
                observe.reader_expired(reader.name, reader.partition, reader.silent_s)
        pressure = await self._log.pressure()
        self._warn_of(pressure.evicts)
        keep_s = min(self._keep_s, RESUME_WINDOW_S) if self._is_tight(pressure) else self._keep_s
        old = self._reached_before(keep_s)
        self._reach(archived)
        for partition, at in archived.items():
            mine = [reader for reader in readers if reader.partition == partition]
            before = keep_from(at, mine, pressure.now_ms - int(keep_s * 1_000), old.get(partition, START))
            observe.trimmed(partition, await self._log.trim(partition, before))
        await self._retire(time.monotonic())

    def _is_tight(self, pressure: Pressure) -> bool:
        tight = pressure.fullness(self._memory_max_bytes) >= TIGHT_FROM
        if tight != self._tight:
            self._tight = tight
            observe.room_changed(pressure.memory_bytes, pressure.allowed_bytes(self._memory_max_bytes), tight=tight)
        return tight

    def _warn_of(self, evicts: str) -> None:
        if evicts and evicts != self._evicts:
            observe.may_be_evicted(evicts)
        self._evicts = evicts

    async def leave(self) -> None:
        """Let go now of the orders that are due soon: the next process does not know of them.

        Raises:
            LogUnavailable
        """
        await self._retire(math.inf)

    def _reached_before(self, seconds: float) -> Mapping[int, Position]:
        """How far Postgres was then, by a clock that no one sets. After Redis' own was set back, the time of its
        entries stands still until it is there again: by that alone none would be old, and the log fill Redis.
        """
        now = time.monotonic()
        return next((at for since, at in reversed(self._reached) if now - since >= seconds), {})

    def _reach(self, archived: Mapping[int, Position]) -> None:
        now = time.monotonic()
        while self._reached and now - self._reached[0][0] > self._keep_s + SWEEP_EVERY_S:
            self._reached.popleft()
        self._reached.append((now, dict(archived)))

    async def _retire(self, until: float) -> None:
        while self._ended and self._ended[0][0] <= until:
            page = [order_id for due, order_id in islice(self._ended, RETIRED_PER_CALL) if due <= until]
            await self._log.retire(page)
            for _ in page:
                self._ended.popleft()
