"""The log as its users see it: one port, told apart by role.

`MemoryLog` and `RedisLog` pass the same contract tests (`tests/contract/test_event_log*.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.events.envelope import Envelope
from libs.events.ids import Position
from libs.events.order import Order
from libs.events.parked import ParkedItems
from libs.events.work import Item, Work

STEPS_PER_COMMIT_MAX = 100
RECENT_MAX = 1_000  # of one user's orders are named by the log itself, for a day: lists need not wait for Postgres
STEPS_WAITING_MAX = 10_000  # of one process and partition; beyond: LogUnavailable, because Redis stands still


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's key and a fingerprint of what was asked under it; kept 24 h."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored event, raw: a reader that need not understand it need not decode it."""

    partition: int
    at: Position
    fields: Mapping[str, str]

    def decode(self) -> Envelope:
        """Raises pydantic.ValidationError or ValueError when the fields are not an event's."""
        return Envelope.from_fields(dict(self.fields))


Only = Callable[[str, str], bool]
"""Whether entries of this user and this order are wanted."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An order as the log holds it now: its folded state and its last event."""

    order: Order
    event: Envelope


@dataclass(frozen=True, slots=True)
class Step:
    """This order, at this version, gets these events and folds to this state; the item, if any, is answered.

    No events: the item is finished and nothing is written to the log.
    `open_max`, of a new order: not while so many of the user's orders have not ended.
    """

    order_id: str
    user: str
    expected_version: int
    events: tuple[Envelope, ...] = ()
    order: Order | None = None
    item: Item | None = None
    idempotency: Idempotency | None = None
    open_max: int | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """The events are in the log; `first` is the position of the first of them."""

    at: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """The order is not at the expected version; nothing was written. `now` is None when the log has no such order."""

    now: Snapshot | None


@dataclass(frozen=True, slots=True)
class NotYours:
    """The item now belongs to another consumer, or is gone; nothing was written."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The idempotency key is taken, by this order and with this fingerprint; nothing was written."""

    order_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class TooManyOpen:
    """So many orders of this user have not ended, as many as may; nothing was written."""

    open: int


Outcome = Committed | Conflict | NotYours | Duplicate | TooManyOpen


class Commits(Protocol):
    """What writers need."""

    @property
    def partitions(self) -> int: ...

    async def commit(self, step: Step) -> Outcome:
        """Write one step, coalesced with its neighbours.

        Raises:
            LogUnavailable: nothing was written.
            OutcomeUnknown: the reply was lost; commit the same step again or `find` the order.
        """
        ...

    async def commit_many(self, steps: Sequence[Step]) -> list[Outcome | Exception]:
        """`commit` for each; what one would raise is its own result."""
        ...

    async def find(self, order_id: str) -> Snapshot | None:
        """The order as the log holds it, or None: never made, or ended, archived and let go.

        Raises:
            ValueError: this release cannot read it.
        """
        ...

    async def version(self, order_id: str) -> int:
        """The order's version, also after it was let go; 0: never made, or longer than a day ago."""
        ...


class Reads(Protocol):
    """What readers need. Positions are contiguous: a reader asserts `position == last + 1`."""

    @property
    def partitions(self) -> int: ...

    @property
    def epoch(self) -> str:
        """Random, made with the log; another epoch is another log."""
        ...

    async def tip(self, partition: int) -> Position:
        """Where the partition's log ends now."""
        ...

    async def read(
        self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
    ) -> list[Entry]:
        """Entries after the given positions, in order per partition, at most `count` of each.

        With `only` unwanted entries may be left out, but never the last one read of a partition: a reader goes on from
        there.

        Raises:
            PositionGap: an entry is missing.
        """
        ...

    async def history(self, order_id: str) -> list[Entry]:
        """An order's events still in the log, in version order; none of an order that was let go."""
        ...

    async def entries_at(self, partition: int, positions: Sequence[Position]) -> list[Entry]:
        """Those of these entries that are still in the log, in the order asked for."""
        ...

    async def recent(self, user: str, before: str | None, limit: int) -> list[str]:
        """Ids of the user's newest orders, newest first, below `before`; holds the newest `RECENT_MAX` of 24 h."""
        ...

    async def recent_since(self, user: str) -> str | None:
        """The oldest id `recent` holds, where older ones may have been dropped; None: it holds all of the day."""
        ...

    async def find_many(self, order_ids: Sequence[str]) -> dict[str, Snapshot]:
        """`find` for several orders; without those that this release cannot read: they must not hide the others."""
        ...

    async def order_of_key(self, user: str, key: str) -> str | None:
        """The order this user made under an idempotency key in the last 24 h."""
        ...

    async def register_reader(self, name: str, at: Mapping[int, Position]) -> None:
        """Publish how far a reader is: nothing beyond it is trimmed while it keeps reporting."""
        ...


class EventLog(Commits, Work, ParkedItems, Reads, Protocol):
    """The whole log."""
