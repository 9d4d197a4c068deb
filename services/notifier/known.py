"""The tokens of orders lately seen: an event alone does not name them, and its amounts need their decimals."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from libs.events.envelope import Envelope
from libs.events.errors import LogUnavailable
from libs.events.model import EVENT_TYPES, OrderRequested
from libs.events.order import Order, evolve
from libs.orders.listed import Listed
from libs.orders.store import StoreUnavailable
from services.notifier import observe


class Views(Protocol):
    """Orders as they are now, never older than the log: `libs.orders.views.OrderViews`."""

    async def get(self, order_id: str) -> Order | None: ...

    async def listed(self, user: str, before: str | None, limit: int) -> tuple[list[Listed], str | None]: ...

    async def whole(self, page: Sequence[Listed]) -> dict[str, Order]: ...


class KnownOrders:
    """The orders last seen, at most `kept`, without their bulk; the rest is asked for."""

    def __init__(self, views: Views, kept: int) -> None:
        self._views, self._kept = views, kept
        self._orders: OrderedDict[str, Order] = OrderedDict()

    def remember(self, order: Order) -> None:
        self._orders[order.id] = order.model_copy(update={"route": None, "transaction": None})
        self._orders.move_to_end(order.id)
        if len(self._orders) > self._kept:
            self._orders.popitem(last=False)

    async def learn(self, entries: Iterable[Mapping[str, str]]) -> set[str]:
        """Ask for the orders without which these entries cannot be shown; gives those that are not kept any more.

        Raises:
            LogUnavailable, StoreUnavailable: they cannot be asked for now.
        """
        entries = list(entries)
        missing = self._missing(entries)
        if not missing:
            return missing
        at_hand = {fields["subject"] for fields in entries} & self._orders.keys()
        known = [self._orders[order_id] for order_id in at_hand]
        asked = await asyncio.gather(*map(self._views.get, missing), return_exceptions=True)
        for order in known:  # while these were asked for others may have pushed it out
            self.remember(order)
        gone = set[str]()
        for order_id, answer in zip(missing, asked, strict=True):
            if isinstance(answer, LogUnavailable | StoreUnavailable):
                raise answer
            if isinstance(answer, BaseException):
                observe.order_unreadable(order_id, repr(answer))
            elif answer:
                self.remember(answer)
            else:
                gone.add(order_id)
        return gone

    def order_of(self, event: Envelope) -> Order:
        """The order of an event that was learned.

        Raises:
            KeyError: there is no such order.
        """
        if isinstance(event.data, OrderRequested):
            self.remember(evolve(None, event))
        return self._orders[event.subject]

    def _missing(self, entries: Iterable[Mapping[str, str]]) -> set[str]:
        """Orders that are neither known nor begin in these entries."""
        begun, missing = set[str](), set[str]()
        for fields in entries:
            order_id, kind = fields["subject"], fields["type"]
            if kind == OrderRequested.__name__:
                begun.add(order_id)
            # An event this release does not know leads to no status it knows: the order's own is shown.
            elif kind not in EVENT_TYPES or not (order_id in begun or order_id in self._orders):
                missing.add(order_id)
            elif order_id in self._orders:
                self._orders.move_to_end(order_id)  # those that begin in these entries must not push it out
        return missing
