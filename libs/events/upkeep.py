"""What keeps the log small and tells when it is full: for the janitor, and for the gateway, which lets orders in."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from libs.events.ids import Position
from libs.events.log import Reads

FULL_AT = 0.9  # of what Redis allows itself: scripts of workers must still find room
# Of what orders may take: entries stay only as long as who comes back needs them, and orders that wait are refused.
TIGHT_FROM = 0.8
READER_EXPIRES_S = 60  # a registered reader silent for longer holds nothing back any more


@dataclass(frozen=True, slots=True)
class Reader:
    """A registered reader of one partition: how far it is, and how long ago it said so."""

    name: str
    partition: int
    at: Position
    silent_s: float


@dataclass(frozen=True, slots=True)
class Pressure:
    """How full the log is. `waiting_s`: age of the oldest item nobody has taken, of any service; 0: there is none.

    `memory_max_bytes`: what Redis itself allows; 0: no limit. `now_ms`: by the clock that entries are stamped with.
    `evicts`: by which policy it drops keys when it is full; empty: it does not.
    """

    waiting_s: float
    memory_bytes: int
    memory_max_bytes: int
    now_ms: int
    evicts: str = ""

    def allowed_bytes(self, ours: int) -> int:
        """Beyond which the log counts as full: what we allow, or what Redis does, if that is less."""
        return min(ours, int(self.memory_max_bytes * FULL_AT)) if self.memory_max_bytes else ours

    def fullness(self, ours: int) -> float:
        """Of what is allowed, how much is used; beyond 1 new orders are refused."""
        allowed = self.allowed_bytes(ours)
        return self.memory_bytes / allowed if allowed else inf


class Upkeep(Protocol):
    """Every method raises LogUnavailable when Redis is away."""

    async def readers(self) -> list[Reader]:
        """Every registered reader, expired ones too; of partitions whose Redis is away nothing is known."""
        ...

    async def forget_reader(self, reader: Reader) -> None:
        """It may register again at any time; one that has spoken since it was looked at stays."""
        ...

    async def trim(self, partition: int, before: Position) -> int:
        """Drop entries older than `before`, by whole pages: a few older ones may stay. Gives how many went.

        Nothing goes that a registered reader still needs, not even one that registered at the last moment.
        """
        ...

    async def retire(self, order_ids: Sequence[str]) -> None:
        """Forget the state of orders that have ended and are archived: `find` gives None for them from now on.

        Their versions stay for a day, so that nothing can make them a second time. Those whose Redis is away stay
        as they are.
        """
        ...

    async def pressure(self) -> Pressure:
        """Measured now."""
        ...


class TrimmableLog(Reads, Upkeep, Protocol):
    """A log and its upkeep."""
