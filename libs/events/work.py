"""Work items: which order a service must act on now. One port, told apart from the log's other roles.

An item is handed to one consumer at a time, and counted each time that it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Item:
    """Work handed to one consumer: act on the last event of the order.

    `fields`: of a fresh item the order as the log holds it (`libs.events.record`); of one that was handed out before
    only what the item itself carries, so the log must be asked. `deliveries`: how often it was handed out, this time
    included; a redelivery is recorded by `Work.count_delivery`, not by taking it.
    """

    service: str
    consumer: str
    partition: int
    id: str
    order_id: str
    fields: Mapping[str, str]
    deliveries: int = 1


class Work(Protocol):
    """What the worker runtime needs. Items are per order: at most one is live for each."""

    async def take(self, service: str, consumer: str, count: int, block_ms: int) -> list[Item]:
        """New items, at most about `count`; waits up to `block_ms` for the first."""
        ...

    async def take_rest(self, service: str, consumer: str) -> list[Item]:
        """What reads of `take` that are still under way bring; for a consumer that takes no more."""
        ...

    async def take_pending(self, service: str, consumer: str) -> list[Item]:
        """Every item this consumer was given before and has not finished: read after a start or a reconnect."""
        ...

    async def claim(self, service: str, consumer: str, idle_ms: int) -> list[Item]:
        """Items whose consumer has been silent for `idle_ms`; they are this consumer's now."""
        ...

    async def renew(self, items: Sequence[Item]) -> None:
        """Keep items in hand from being claimed by another."""
        ...

    async def count_delivery(self, item: Item) -> int:
        """Count one more try of an item in hand, before it is made; gives the new count."""
        ...

    async def uncount_delivery(self, items: Sequence[Item]) -> None:
        """Take the last try of these items back: it was broken off, and for nothing that was wrong with them."""
        ...

    async def park(self, item: Item, reason: str, fingerprint: str) -> bool:
        """Set an item aside for an operator. False: it was not this consumer's any more."""
        ...

    async def move_due(self) -> int:
        """Turn timers that are due into work items; gives how many."""
        ...

    async def timers(self, count: int, turn: int = 0) -> list[str]:
        """Ids of orders that wait for a time, at most `count` of each partition, the soonest first.

        Where there are more, each `turn` gives the next so many, or the last, and after these the first again.
        """
        ...

    async def hasten(self, order_ids: Sequence[str]) -> None:
        """Let what these orders wait for be due now; those that do not wait stay as they are."""
        ...

    async def backlog(self, service: str) -> int:
        """Items waiting or in hand."""
        ...


def begin_of(turn: int, count: int, total: int) -> int:
    """Where this turn's part of `total` begins, `count` in each. The last part overlaps rather than be short."""
    return min(turn % max(1, -(-total // count)) * count, max(0, total - count))
