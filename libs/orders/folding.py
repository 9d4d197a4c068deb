"""Orders as the projection folds them: what their rows say, and which events they name. See `docs/adr/0023`.

What the events say of an order is folded by whoever reads it (`libs.orders.named`), with the one fold there is. Kept in
memory, so that a projection in step with the log reads nothing back.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime

from libs.events.errors import VersionGap
from libs.events.reactions import STATUS_AFTER, TERMINAL
from libs.orders.copy_text import text_of_array
from libs.orders.heads import Head
from libs.orders.rows import Values

ORDERS_CACHED_MAX = 10_000

_STATUS_AFTER = {event.__name__: status.value for event, status in STATUS_AFTER.items()}

Kind = tuple[str, int]
"""A type of event and the version of its schema: what one release does not understand, another does."""


@dataclass(slots=True)
class Outline:
    """An order's row. `request` is how it began; None where the row is there already."""

    version: int
    status: str
    updated_at: datetime
    amount_out: int | None = None
    latest: dict[Kind, int] = field(default_factory=dict)
    request: Head | None = None

    def named(self) -> list[int]:
        """Versions of the events the order folds from."""
        return sorted(self.latest.values())

    def row(self, order_id: str) -> Values:
        """Values for ORDER_COLUMNS, of an order that began."""
        assert self.request is not None
        head, request = self.request, self.request.request
        assert request is not None
        return (
            order_id,
            head.user,
            self.version,
            self.status,
            request.token_in,
            request.token_out,
            request.amount_in,
            self.amount_out,
            head.time,
            self.updated_at,
            request.terms.client_order_id if request.terms else None,
            self.named(),
        )

    def change(self, order_id: str, before: int) -> Values:
        """Values for `libs.orders.sql.CHANGE_ORDERS`: what may differ from the row at version `before`."""
        # An array of arrays would be one of numbers to Postgres.
        latest = text_of_array(self.named())
        return (order_id, before, self.version, self.status, self.amount_out, self.updated_at, latest)


class Fold:
    """The orders a batch's events touch, after them. `known` holds those that exist already, and stays as it is."""

    def __init__(self, known: Mapping[str, Outline]) -> None:
        self.known = known
        self.orders: dict[str, Outline] = {}

    def take(self, head: Head) -> None:
        """Fold one event.

        Raises:
            VersionGap: an order's version does not rise by exactly one, or it does not begin with its request.
        """
        order = self.orders.get(head.order_id) or self._begun(head)
        if head.version != order.version + 1:
            raise VersionGap(head.order_id, expected=order.version + 1, found=head.version)
        order.version, order.updated_at = head.version, head.time
        order.latest[head.type, head.v] = head.version
        if head.known:
            order.status = _STATUS_AFTER.get(head.type, order.status)
        if head.amount_out is not None:
            order.amount_out = head.amount_out

    def _begun(self, head: Head) -> Outline:
        if before := self.known.get(head.order_id):
            order = copy(before)
            order.latest, order.request = dict(before.latest), None
        elif head.version == 1 and head.request:
            order = Outline(0, "", head.time, request=head)
        else:
            detail = f"starts with {head.type}" if head.version == 1 else ""
            raise VersionGap(head.order_id, expected=1, found=head.version, detail=detail)
        self.orders[head.order_id] = order
        return order


class Folded:
    """The newest outlines of the orders seen last; the one unseen longest leaves first."""

    def __init__(self, size: int = ORDERS_CACHED_MAX) -> None:
        self._size = size
        self._orders: OrderedDict[str, Outline] = OrderedDict()

    def known(self, order_ids: Iterable[str]) -> dict[str, Outline]:
        """Those of them that are here."""
        return {order_id: self._orders[order_id] for order_id in order_ids if order_id in self._orders}

    def keep(self, orders: Mapping[str, Outline]) -> None:
        """Remember committed states; an ended order will hardly be asked for again."""
        for order_id, order in orders.items():
            if order.status in TERMINAL:
                self._orders.pop(order_id, None)
            else:
                self._orders[order_id] = order
                self._orders.move_to_end(order_id)
        while len(self._orders) > self._size:
            self._orders.popitem(last=False)

    def clear(self) -> None:
        """Forget everything: what was committed is not known any more."""
        self._orders.clear()
