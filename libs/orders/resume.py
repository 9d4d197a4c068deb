"""Going on from a cursor: what happened to one user's orders since, out of the log or, where that is trimmed, the
archive.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from libs.events.errors import LogMismatch
from libs.events.ids import Cursor, Position, partition_of_user
from libs.events.log import Entry, Reads
from libs.events.model import U64_MAX

PAGE = 500


class NotResumable(Exception):
    """What followed the cursor cannot be told without a gap; the text says why in one sentence."""


class Log(Reads, Protocol):
    """A log that goes back as far as cursors do; `ArchivedReads` is one."""


def position_of(cursor: str, log: Reads, user: str) -> Position:
    """The place `cursor` means.

    Raises:
        NotResumable: it is none, is of another log, or of another user.
    """
    try:
        parsed = Cursor.parse(cursor)
    except ValueError:
        raise NotResumable("This is not a cursor.") from None
    if not (0 <= parsed.at.ms <= U64_MAX and 0 <= parsed.at.position <= U64_MAX):
        raise NotResumable("This is not a cursor.")  # Redis would refuse it, as if it were away
    if parsed.epoch != log.epoch:
        raise NotResumable("The cursor is from before the log was repaired.")
    if parsed.partition != partition_of_user(user, log.partitions):
        raise NotResumable("The cursor is not one of yours.")
    return parsed.at


async def pages_after(
    log: Log, user: str, after: Position, entries_max: int
) -> AsyncIterator[tuple[list[Entry], Position]]:
    """The user's entries after a position, page by page, each with the position it reaches; ends at the log's tip.

    Raises:
        NotResumable: there is no such position, a gap behind it, or more than `entries_max` entries.
        LogUnavailable: the log cannot be read now.
    """
    partition = partition_of_user(user, log.partitions)
    tip = await log.tip(partition)
    if after.position > tip.position:
        raise NotResumable("There is no such place in the log.")
    begin = after.position
    while after.position < tip.position:
        try:
            entries = await log.read({partition: after}, PAGE, 0, lambda owner, _order: owner == user)
        except LogMismatch as gap:
            raise NotResumable(f"What followed the cursor is gone: {gap}") from gap
        if not entries:
            raise NotResumable("There is no such place in the log.")
        after = entries[-1].at
        if after.position - begin > entries_max:
            raise NotResumable("The cursor is too old.")
        yield [entry for entry in entries if entry.fields["user"] == user], after
