"""What is told of orders: each as it is now, and each of their events as clients read it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from libs.events.ids import Cursor
from libs.events.log import Entry
from libs.orders.presentation import event_body
from libs.orders.shown import Shown, ShownOrder, shown
from libs.service.turns import Turns
from services.notifier import observe
from services.notifier.known import KnownOrders, Views
from services.notifier.limits import Limits
from services.notifier.reached import Reached
from services.notifier.subscriber import Told


class Telling:
    """Reads orders, so many at once as may be, and remembers of them what their events need to be shown."""

    def __init__(self, reached: Reached, views: Views, limits: Limits) -> None:
        self._reached, self._views, self._limits = reached, views, limits
        self._known = KnownOrders(views, limits.orders_kept)
        self._shown = Shown(views, limits.ended_orders_kept)
        self.reading = Turns(limits.snapshots_at_once, limits.snapshots_of_user_at_once)
        """Bounds how many listeners are read for at once."""

    async def read(self, user: str, wanted: set[str] | None) -> list[ShownOrder] | None:
        """These orders, or the user's newest; None: one of them is not there, or not this user's.

        Raises:
            LogUnavailable, StoreUnavailable
        """
        if wanted is None:
            page, _ = await self._views.listed(user, None, self._limits.snapshot_orders)
            return await self._shown.of(page)
        asked = sorted(wanted)  # it may change while they are read
        found = await asyncio.gather(*map(self._views.get, asked))
        # The same answer for another user's order and for none, so that ids cannot be probed.
        mine = [shown(order) for order in found if order and order.user == user]
        return mine if len(mine) == len(asked) else None

    def remember(self, orders: Sequence[ShownOrder]) -> None:
        """They were told of: their events will come."""
        for one in orders:
            if one.order:
                self._known.remember(one.order)

    async def learn(self, entries: Iterable[Mapping[str, str]]) -> set[str]:
        """Ask for what `told` needs for these; gives the orders that are not kept any more: nothing is told of them.

        Raises:
            LogUnavailable, StoreUnavailable: it cannot be asked for now.
        """
        return await self._known.learn(entries)

    def told(self, entry: Entry) -> Told | None:
        """The entry as it is told; None, and operators are, if it cannot be read."""
        cursor = str(Cursor(self._reached.epoch, entry.partition, entry.at))
        try:
            event = entry.decode()
            body = event_body(event, cursor, self._known.order_of(event))
        except (ValueError, KeyError) as error:
            observe.entry_unreadable(entry.fields.get("id", cursor), str(error))
            return None
        return Told(body, cursor, event.subject, event.version, entry.at.position)
