"""Items a service could not handle, and what operators do with them."""

from dataclasses import dataclass
from typing import Protocol

DISCARDED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Parked:
    """An item a service could not handle.

    `event_id` and `event_type` name what it had to act on, as far as the item tells. Times are Redis' own, in ms.
    """

    partition: int
    id: str
    service: str
    order_id: str
    reason: str
    deliveries: int
    fingerprint: str
    event_id: str = ""
    event_type: str = ""
    traceparent: str = ""
    made_ms: int = 0
    parked_ms: int = 0


@dataclass(frozen=True, slots=True)
class Discarded:
    """What an operator threw away, and what was said about it."""

    parked: Parked
    by: str
    reason: str
    at_ms: int


class ParkedItems(Protocol):
    """What operators need of the log; `Work.park` is how items come here."""

    async def parked(self, count: int = 100) -> list[Parked]:
        """Items set aside, oldest first."""
        ...

    async def redrive(self, parked: Parked) -> bool:
        """Put a parked item back to work with the order's present state. False: it was gone, or its order is."""
        ...

    async def discard(self, parked: Parked, by: str, reason: str) -> bool:
        """Move a parked item to the audit of discarded ones. False: it was gone.

        The order is another matter: `libs.events.parking.discard` ends it first.
        """
        ...

    async def discarded(self, count: int = 100) -> list[Discarded]:
        """The newest discarded items, oldest first; the audit holds `DISCARDED_MAX` for each partition."""
        ...
