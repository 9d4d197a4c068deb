"""Whole orders folded from whole events: what the rows of a projection must come to."""

from collections.abc import Iterable

from libs.events.log import Entry
from libs.events.order import Order, evolve
from libs.orders.rows import decode


def folded(entries: Iterable[Entry], before: dict[str, Order] | None = None) -> dict[str, Order]:
    """The orders the entries touch, after them.

    Raises:
        VersionGap, Undecodable
    """
    orders = dict(before or {})
    for event in map(decode, entries):
        orders[event.subject] = evolve(orders.get(event.subject), event)
    return orders
