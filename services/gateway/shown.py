"""Orders of a list as clients see them: one that has ended never looks different again, so it is written once."""

from collections import OrderedDict
from collections.abc import Sequence

import orjson

from libs.orders.listed import Listed
from libs.orders.presentation import Body, order_body
from libs.orders.views import OrderViews


class Shown:
    """Of ended orders the last `kept` that were shown, as JSON: a kilobyte each."""

    def __init__(self, views: OrderViews, kept: int) -> None:
        self._views, self._kept = views, kept
        self._ended: OrderedDict[str, orjson.Fragment] = OrderedDict()

    async def bodies(self, page: Sequence[Listed]) -> Sequence[Body | orjson.Fragment]:
        """For each its body; without those whose events are gone. `page`: orders the caller may see."""
        final = {one.id for one in page if one.archived_end}
        known = {order_id: self._ended[order_id] for order_id in final if order_id in self._ended}
        orders = await self._views.whole([one for one in page if one.id not in known])
        for order_id in final & orders.keys():
            known[order_id] = orjson.Fragment(orjson.dumps(order_body(orders[order_id])))
        self._keep({one.id: known[one.id] for one in page if one.id in known})
        return [known.get(one.id) or order_body(orders[one.id]) for one in page if one.id in known or one.id in orders]

    def _keep(self, bodies: dict[str, orjson.Fragment]) -> None:
        for order_id, body in bodies.items():
            self._ended[order_id] = body
            self._ended.move_to_end(order_id)
        while len(self._ended) > self._kept:
            self._ended.popitem(last=False)
