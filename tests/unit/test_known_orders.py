"""What the notifier asks about orders: nothing the entries at hand tell themselves."""

from collections.abc import Mapping, Sequence

import pytest

from libs.events.envelope import Envelope
from libs.events.order import Order, evolve
from libs.orders.listed import Listed
from libs.orders.store import StoreUnavailable
from services.notifier.known import KnownOrders
from tests.builders import a_request, routing_started


class Asked:
    """Views that note what they are asked for."""

    def __init__(self, *orders: Order) -> None:
        self._orders = {order.id: order for order in orders}
        self.asked: list[str] = []

    async def get(self, order_id: str) -> Order | None:
        self.asked.append(order_id)
        return self._orders.get(order_id)

    async def listed(self, user: str, before: str | None, limit: int) -> tuple[list[Listed], str | None]:
        raise AssertionError(f"nobody needs the newest orders of {user}")

    async def whole(self, page: Sequence[Listed]) -> dict[str, Order]:
        raise AssertionError("nobody needs a page of orders")


def requested() -> Envelope:
    return a_request(1, "alice")[0].events[0]


def another(event: Envelope, kind: str) -> Mapping[str, str]:
    return {**event.fields(), "type": kind, "version": "2"}


async def test_an_order_that_begins_in_the_same_entries_is_not_asked_for() -> None:
    event, views = requested(), Asked()
    known = KnownOrders(views, 10)
    await known.learn([event.fields(), another(event, "RoutingStarted")])
    assert views.asked == []
    assert known.order_of(event).id == event.subject
    await known.learn([another(event, "RouteSelected")])
    assert views.asked == []


async def test_an_order_that_began_before_is_asked_for_once() -> None:
    event = requested()
    views = Asked(evolve(None, event))
    known = KnownOrders(views, 10)
    for kind in ("RoutingStarted", "RouteSelected"):
        await known.learn([another(event, kind)])
    assert views.asked == [event.subject]


async def test_an_event_of_an_unknown_type_has_the_orders_own_status() -> None:
    event = requested()
    views = Asked(evolve(None, event))
    known = KnownOrders(views, 10)
    await known.learn([event.fields(), another(event, "SomethingOfTomorrow")])
    assert views.asked == [event.subject]


async def test_an_order_that_is_needed_is_not_forgotten_for_those_that_begin_in_the_same_entries() -> None:
    old, recent, new = requested(), requested(), requested()
    known = KnownOrders(Asked(), 2)
    for event in (old, recent):
        known.order_of(event)
    await known.learn([new.fields(), another(old, "RoutingStarted")])
    known.order_of(new)
    moved = old.model_copy(update={"version": 2, "type": "RoutingStarted", "data": routing_started()})
    assert known.order_of(moved).id == old.subject


async def test_an_order_that_is_needed_is_not_forgotten_for_those_others_see_while_the_rest_is_asked_for() -> None:
    old, unknown = requested(), requested()

    class Slow(Asked):
        async def get(self, order_id: str) -> Order | None:
            for other in (requested(), requested()):
                known.order_of(other)
            return await super().get(order_id)

    known = KnownOrders(Slow(evolve(None, unknown)), 2)
    known.order_of(old)
    await known.learn([another(old, "RoutingStarted"), another(unknown, "RoutingStarted")])
    for event in (old, unknown):
        moved = event.model_copy(update={"version": 2, "type": "RoutingStarted", "data": routing_started()})
        assert known.order_of(moved).id == event.subject


async def test_an_order_that_cannot_be_asked_for_now_is_not_passed_over() -> None:
    class Away(Asked):
        async def get(self, order_id: str) -> Order | None:
            raise StoreUnavailable(order_id)

    with pytest.raises(StoreUnavailable):
        await KnownOrders(Away(), 10).learn([another(requested(), "RoutingStarted")])
