"""Orders folded so far, kept in memory so that a projection in step with the log reads nothing back."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from libs.events.envelope import Envelope
from libs.events.errors import VersionGap
from libs.events.order import Order, evolve
from libs.events.reactions import TERMINAL

ORDERS_CACHED_MAX = 10_000


class Folded:
    """The newest state of the orders seen last; the one unseen longest leaves first."""

    def __init__(self, size: int = ORDERS_CACHED_MAX) -> None:
        self._size = size
        self._orders: OrderedDict[str, Order] = OrderedDict()

    def known(self, order_ids: Iterable[str]) -> dict[str, Order]:
        """Those of them that are here."""
        return {order_id: self._orders[order_id] for order_id in order_ids if order_id in self._orders}

    def keep(self, orders: Mapping[str, Order]) -> None:
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


def fold(
    known: Mapping[str, Order], events: Iterable[Envelope], folded: dict[str, Order] | None = None
) -> dict[str, Order]:
    """The orders the events touch, after them; `known` holds those that exist already, `folded` goes on growing.

    Raises:
        VersionGap: an order's version does not rise by exactly one.
    """
    folded = {} if folded is None else folded
    for event in events:
        order = folded.get(event.subject) or known.get(event.subject)
        if order and event.version != order.version + 1:
            raise VersionGap(event.subject, expected=order.version + 1, found=event.version)
        folded[event.subject] = evolve(order, event)
    return folded
