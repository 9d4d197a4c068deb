"""Every error of the log, and its one fate.

EventLogError
├── LogUnavailable        Redis is away, loading, full or read-only: nothing was written; try again later
│   ├── OutcomeUnknown    the reply was lost: ask the log what it holds, then go on from there
│   └── LogNotOpen        it is being made or checked: look again in a moment
├── LogMismatch           another layout or a hole in the positions: stop loudly, an operator must look
│   ├── LogReplaced       the log this process opened is gone or has a new epoch: start again
│   └── PositionGap       a position is missing between two entries
│       └── Trimmed       what was asked for is older than the log: the archive has it
└── VersionGap            an order's events are not contiguous: stop loudly

An expected refusal (conflict, not yours, duplicate key) is a value, never an error: see `libs.events.log`.
"""


class EventLogError(Exception):
    """Anything the log raises."""


class LogUnavailable(EventLogError):
    """Nothing was written; the same call may succeed later."""


class OutcomeUnknown(LogUnavailable):
    """The write may or may not have happened."""


class LogNotOpen(LogUnavailable):
    """The projector has yet to make the log, or to check it after Redis was started."""


class LogMismatch(EventLogError):
    """The log is not the one expected."""


class LogReplaced(LogMismatch):
    """The log has another epoch now, or is gone: forget what was read and start it again."""


class PositionGap(LogMismatch):
    """An entry between `expected` and `found` is missing from a partition."""

    def __init__(self, partition: int, expected: int, found: int) -> None:
        super().__init__(f"partition {partition}: expected position {expected}, found {found}: entries are missing")
        self.partition, self.expected, self.found = partition, expected, found


class Trimmed(PositionGap):
    """The log begins after `expected`; nothing is missing from what it holds."""


class VersionGap(EventLogError):
    """An order's next event is not the next version."""

    def __init__(self, order_id: str, expected: int, found: int, detail: str = "") -> None:
        super().__init__(f"order {order_id}: expected version {expected}, found {found} {detail}".rstrip())
        self.order_id, self.expected, self.found = order_id, expected, found
