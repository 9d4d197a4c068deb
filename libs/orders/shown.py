"""Orders as clients see them, many at once. One whose end is archived never looks different again: written once."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import orjson

from libs.events.model import Status
from libs.events.order import Order
from libs.orders.listed import Listed
from libs.orders.presentation import Body, order_body

Key = tuple[str, Status, tuple[object, ...]]


class Views(Protocol):
    """Where whole orders come from; `OrderViews` is one."""

    async def whole(self, page: Sequence[Listed]) -> dict[str, Order]: ...


class ShownOrder(NamedTuple):
    """`order`: the whole of it, where it may still go on."""

    id: str
    version: int
    body: Body | orjson.Fragment
    order: Order | None = None


def shown(order: Order) -> ShownOrder:
    """An order that may still go on."""
    return ShownOrder(order.id, order.version, order_body(order), order)


class Shown:
    """Of ended orders the last `kept` that were shown, as JSON: a kilobyte each."""

    def __init__(self, views: Views, kept: int) -> None:
        self._views, self._kept = views, kept
        self._ended: OrderedDict[Key, ShownOrder] = OrderedDict()

    async def of(self, page: Sequence[Listed]) -> list[ShownOrder]:
        """Each in its order; without those whose events are gone. `page`: orders the caller may see."""
        keys = {one.id: _key(one) for one in page if one.archived_end}
        ended = {order_id: self._ended[key] for order_id, key in keys.items() if key in self._ended}
        orders = await self._views.whole([one for one in page if one.id not in ended])
        ended |= {order_id: _ended(orders[order_id]) for order_id in keys if order_id in orders}
        self._keep({keys[order_id]: order for order_id, order in ended.items()})
        return [found for one in page if (found := ended.get(one.id) or _open(orders, one.id))]

    def _keep(self, ended: Mapping[Key, ShownOrder]) -> None:
        for key, order in ended.items():
            self._ended[key] = order
            self._ended.move_to_end(key)
        while len(self._ended) > self._kept:
            self._ended.popitem(last=False)


def _key(one: Listed) -> Key:
    """By all that the row says: one that a rebuild put right is another."""
    return one.id, one.status, one.row


def _open(orders: Mapping[str, Order], order_id: str) -> ShownOrder | None:
    return shown(orders[order_id]) if order_id in orders else None


def _ended(order: Order) -> ShownOrder:
    return ShownOrder(order.id, order.version, orjson.Fragment(orjson.dumps(order_body(order))))
