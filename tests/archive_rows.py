"""An entry as its row in the archive, without Postgres."""

from libs.events.log import Entry
from libs.orders.rows import EVENT_COLUMNS, decode, event_row


def archive_row(entry: Entry, epoch: str = "e1") -> dict[str, object]:
    """What would be read back, by column."""
    return dict(zip(EVENT_COLUMNS, event_row(entry, decode(entry), epoch), strict=True))
