"""An order of a list: enough to choose by, without its events."""

from datetime import datetime
from typing import NamedTuple

from libs.events.model import Status
from libs.events.order import Order
from libs.events.reactions import TERMINAL
from libs.orders.connection import Row


class Listed(NamedTuple):
    """`order`: the whole of it, where it is at hand already: it is from the log. `row`: what else its row says."""

    id: str
    status: Status
    created_at: datetime
    order: Order | None = None
    row: tuple[object, ...] = ()

    @property
    def archived_end(self) -> bool:
        """Whether nothing of it will ever change. What only the log knows may be lost with Redis, and end otherwise."""
        return self.order is None and self.status in TERMINAL


def listed_row(row: Row) -> Listed:
    """A row of `libs.orders.sql.NEWEST_BEFORE` as one of a list."""
    said = (row["version"], row["amount_out"], row["updated_at"])
    return Listed(str(row["id"]), Status(row["status"]), row["created_at"], row=said)


def listed(order: Order) -> Listed:
    """A whole order as one of a list."""
    return Listed(order.id, order.status, order.created_at, order)
