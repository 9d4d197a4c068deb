"""Entries on their way into the archive, as the text Postgres' COPY reads.

An entry's values go in as the log has them, a hundred rows joined and looked at in one go: to make a value of each and
write that for Postgres costs several times as much. What text cannot carry so goes in as values.
"""

from collections.abc import AsyncIterator, Iterator, Sequence

from libs.events.envelope import FIELD_NAMES
from libs.events.log import Entry
from libs.orders.copy_text import DELIMITER, text_of
from libs.orders.folding import Fold
from libs.orders.heads import head_of
from libs.orders.rows import EVENT_COLUMN_OF, Values, decode, event_row

ROWS_PER_PIECE = 100  # Postgres takes one piece while the next is made
# `id` is put together from two others again.
LINE_COLUMNS = (
    "partition",
    "position",
    "ms",
    "epoch",
    *(EVENT_COLUMN_OF[name] for name in FIELD_NAMES if name != "id"),
)


class Lines:
    """A batch's entries: `plain()` first, all of it; then `odd` holds the rows that were not among them."""

    def __init__(self, entries: Sequence[Entry], epoch: str, fold: Fold) -> None:
        self._entries, self._epoch, self._fold = entries, epoch, fold
        self.odd: list[Values] = []

    async def plain(self) -> AsyncIterator[bytes]:
        """The text, piece by piece; folds what is in it."""
        for start in range(0, len(self._entries), ROWS_PER_PIECE):
            piece = self._entries[start : start + ROWS_PER_PIECE]
            odd: list[Values] = []
            lines = list(self._lines(piece, odd))
            text = text_of(lines, len(LINE_COLUMNS)) if lines else b""
            self.odd += odd if text is not None else [self._row(entry) for entry in piece]
            if text:
                yield text

    def _lines(self, entries: Sequence[Entry], odd: list[Values]) -> Iterator[str]:
        for entry in entries:
            head, values = head_of(entry)
            self._fold.take(head)
            if values is None:
                odd.append(self._row(entry))
            else:
                at = entry.at
                yield DELIMITER.join((str(entry.partition), str(at.position), str(at.ms), self._epoch, *values[1:]))

    def _row(self, entry: Entry) -> Values:
        return event_row(entry, decode(entry), self._epoch)
