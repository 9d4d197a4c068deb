"""Every error of the log, and its one fate.

EventLogError
├── LogUnavailable        Redis is away, loading, full or read-only: nothing was written; try again later
│   └── OutcomeUnknown    the reply was lost: ask the log what it holds, then go on from there
├── LogMismatch           another layout, epoch or a hole in the positions: stop loudly, an operator must look
│   └── PositionGap       a position is missing between two entries
└── VersionGap            an order's events are not contiguous: stop loudly

An expected refusal (conflict, not yours, duplicate key) is a value, never an error: see `libs.events.log`.
"""


class EventLogError(Exception):
    """Anything the log raises."""


class LogUnavailable(EventLogError):
    """Nothing was written; the same call may succeed later."""


class OutcomeUnknown(LogUnavailable):
    """The write may or may not have happened."""


class LogMismatch(EventLogError):
    """The log is not the one expected."""


class PositionGap(LogMismatch):
    """An entry between `expected` and `found` is missing from a partition."""

    def __init__(self, partition: int, expected: int, found: int) -> None:
        super().__init__(f"partition {partition}: expected position {expected}, found {found}: entries are missing")
        self.partition, self.expected, self.found = partition, expected, found


class VersionGap(EventLogError):
    """An order's next event is not the next version."""

    def __init__(self, order_id: str, expected: int, found: int, detail: str = "") -> None:
        super().__init__(f"order {order_id}: expected version {expected}, found {found} {detail}".rstrip())
        self.order_id, self.expected, self.found = order_id, expected, found
