"""An order is seen the instant it is in the log, never older than the log knows it, and after the log forgot it."""

import asyncio
from collections.abc import Sequence

import orjson
import pytest

from libs.events.errors import VersionGap
from libs.events.ids import new_order_id
from libs.events.log import RECENT_MAX, Entry, Snapshot
from libs.events.memory_log import MemoryLog
from libs.events.model import Event, OrderCancelled
from libs.events.order import Order
from libs.orders.batch import Batch
from libs.orders.listed import Listed
from libs.orders.presentation import order_body
from libs.orders.shown import Shown
from libs.orders.store import OrderStore, StoreBehind
from libs.orders.views import OrderViews
from tests.builders import a_request, route_selected, routing_started, then, tx_confirmed, tx_submitted

JOURNEY = (routing_started(), route_selected(), tx_submitted(), tx_confirmed())


class ForgetfulLog(MemoryLog):
    """A log that was trimmed and whose ended orders have expired."""

    def __init__(self) -> None:
        super().__init__(1)
        self.forgotten: set[str] = set()
        self.trimmed_below = 0

    async def find(self, order_id: str) -> Snapshot | None:
        return None if order_id in self.forgotten else await super().find(order_id)

    async def find_many(self, order_ids: object) -> dict[str, Snapshot]:
        assert isinstance(order_ids, list)
        return await super().find_many([order_id for order_id in order_ids if order_id not in self.forgotten])

    async def recent(self, user: str, before: str | None, limit: int) -> list[str]:
        ids = await super().recent(user, before, limit + len(self.forgotten))
        return [order_id for order_id in ids if order_id not in self.forgotten][:limit]

    async def history(self, order_id: str) -> list[Entry]:
        if order_id in self.forgotten:
            return []
        return [entry for entry in await super().history(order_id) if entry.at.position >= self.trimmed_below]


async def an_order(log: MemoryLog, *bodies: Event, user: str = "user-1") -> Snapshot:
    step, snapshot = a_request(1, user)
    await log.commit(step)
    return await go_on(log, snapshot, *bodies)


async def go_on(log: MemoryLog, snapshot: Snapshot, *bodies: Event) -> Snapshot:
    for body in bodies:
        step, snapshot = then(snapshot, body)
        await log.commit(step)
    return snapshot


async def project(log: MemoryLog, store: OrderStore) -> None:
    projection = store.projection()
    at = await projection.resume(log.epoch, 1)
    entries = await log.read(at, 1_000, 0)
    await projection.apply(log.epoch, Batch(at, entries))


async def test_before_the_projection_has_it_the_log_answers(store: OrderStore) -> None:
    log = ForgetfulLog()
    views = OrderViews(log, store)
    snapshot = await an_order(log, routing_started())
    assert await views.get(snapshot.order.id) == snapshot.order
    assert await views.newest("user-1", None, 10) == ([snapshot.order], None)
    assert [event.version for event, _ in await views.history(snapshot.order.id)] == [1, 2]


async def test_what_json_can_hold_and_a_text_of_postgres_cannot_stops_nobody(store: OrderStore) -> None:
    log = ForgetfulLog()
    step, snapshot = a_request(1, terms={"client_order_id": "mine", "metadata": {"note": "\x00"}})
    await log.commit(step)
    await project(log, store)
    assert await store.get(snapshot.order.id) == snapshot.order
    assert await store.by_client_id("user-1", "mine") == snapshot.order


async def test_a_lagging_projection_is_never_shown(store: OrderStore) -> None:
    log = ForgetfulLog()
    views = OrderViews(log, store)
    snapshot = await an_order(log, routing_started())
    await project(log, store)
    snapshot = await go_on(log, snapshot, route_selected())
    assert await views.get(snapshot.order.id) == snapshot.order
    assert await views.newest("user-1", None, 10) == ([snapshot.order], None)


async def test_an_order_found_by_the_clients_id_is_as_the_log_knows_it(store: OrderStore) -> None:
    """After a day its key is forgotten, and a limit order may wait for three months."""
    log = ForgetfulLog()
    views = OrderViews(log, store)
    step, snapshot = a_request(1, terms={"client_order_id": "mine"})
    await log.commit(step)
    await project(log, store)
    snapshot = await go_on(log, snapshot, OrderCancelled())
    assert await views.by_client_id("user-1", "mine") == snapshot.order
    await project(log, store)
    log.forgotten.add(snapshot.order.id)
    assert await views.by_client_id("user-1", "mine") == snapshot.order
    assert await views.by_client_id("user-1", "none") is None


async def test_what_the_log_forgot_postgres_still_tells(store: OrderStore) -> None:
    log = ForgetfulLog()
    views = OrderViews(log, store)
    old = await an_order(log, *JOURNEY)
    await project(log, store)
    log.forgotten.add(old.order.id)
    new = await an_order(log)
    assert await views.get(old.order.id) == old.order
    assert await views.newest("user-1", None, 10) == ([new.order, old.order], None)
    assert [event.version for event, _ in await views.history(old.order.id)] == [1, 2, 3, 4, 5]


async def test_pages_join_log_and_projection_without_repeating_or_losing_any(store: OrderStore) -> None:
    log = ForgetfulLog()
    views = OrderViews(log, store)
    for number in range(7):
        snapshot = await an_order(log, *JOURNEY)
        if number < 3:
            log.forgotten.add(snapshot.order.id)
        if number < 5:
            await project(log, store)
        await an_order(log, user="somebody else")
    everything, _ = await views.newest("user-1", None, 100)
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = await views.newest("user-1", cursor, 2)
        seen += [order.id for order in page]
        if cursor is None:
            break
    assert seen == [order.id for order in everything] == sorted(seen, reverse=True)
    assert len(seen) == 7


async def test_a_list_with_orders_that_nobody_can_name_yet_is_refused(store: OrderStore) -> None:
    """More of one user's than the log names, and the projection has none of them: such a list would have a hole."""
    log = ForgetfulLog()
    views = OrderViews(log, store)
    steps = [a_request(1)[0] for _ in range(RECENT_MAX + 100)]
    await log.commit_many(steps)
    made = sorted((step.order_id for step in steps), reverse=True)

    async def pages() -> list[str]:
        page, cursor = await views.listed("user-1", None, 200)
        seen = [one.id for one in page]
        while cursor:
            page, cursor = await views.listed("user-1", cursor, 200)
            seen += [one.id for one in page]
        return seen

    with pytest.raises(StoreBehind):
        await pages()
    await project(log, store)
    assert await pages() == made


async def test_a_trimmed_history_is_made_whole_from_the_archive(store: OrderStore) -> None:
    log = ForgetfulLog()
    views = OrderViews(log, store)
    snapshot = await an_order(log, *JOURNEY[:2])
    await project(log, store)
    snapshot = await go_on(log, snapshot, *JOURNEY[2:])
    log.trimmed_below = 3
    history = await views.history(snapshot.order.id)
    assert [event.version for event, _ in history] == [1, 2, 3, 4, 5]
    assert [at.position for _, at in history] == [1, 2, 3, 4, 5]
    log.trimmed_below = 5  # beyond what is archived: nobody may trim like that, and nobody is shown half a story
    with pytest.raises(VersionGap, match="expected version 4, found 5"):
        await views.history(snapshot.order.id)


async def test_an_order_that_never_was_is_none(store: OrderStore) -> None:
    views = OrderViews(ForgetfulLog(), store)
    unknown = new_order_id(0)
    assert await views.get(unknown) is None
    assert await views.history(unknown) == []
    assert await views.newest("nobody", None, 10) == ([], None)


class Noting(OrderViews):
    """Notes which orders are asked for whole."""

    def __init__(self, log: MemoryLog, store: OrderStore) -> None:
        super().__init__(log, store)
        self.asked: list[list[str]] = []

    async def whole(self, page: Sequence[Listed]) -> dict[str, Order]:
        self.asked.append([one.id for one in page])
        return await super().whole(page)


async def bodies(views: OrderViews, shown: Shown) -> object:
    page, _ = await views.listed("user-1", None, 10)
    return [orjson.loads(orjson.dumps(one.body)) for one in await shown.of(page)]


async def test_an_ended_order_of_a_list_is_read_once_and_an_open_one_as_it_is_now(store: OrderStore) -> None:
    log = ForgetfulLog()
    ended = await an_order(log, *JOURNEY)
    still_open = await an_order(log)
    await project(log, store)
    views = Noting(log, store)
    shown = Shown(views, 10)
    assert await bodies(views, shown) == [order_body(still_open.order), order_body(ended.order)]
    still_open = await go_on(log, still_open, routing_started())
    assert await bodies(views, shown) == [order_body(still_open.order), order_body(ended.order)]
    assert views.asked == [[still_open.order.id, ended.order.id], [still_open.order.id]]


async def test_an_end_that_was_lost_before_it_was_archived_is_not_shown_for_another(store: OrderStore) -> None:
    lost, log = ForgetfulLog(), ForgetfulLog()
    step, begun = a_request(1)
    await asyncio.gather(lost.commit(step), log.commit(step))
    views = Noting(lost, store)
    shown = Shown(views, 10)
    ended = await go_on(lost, begun, *JOURNEY)
    assert await bodies(views, shown) == [order_body(ended.order)]
    views._log = log  # Redis came back without its newest entries
    ended = await go_on(log, begun, *JOURNEY[:-1], tx_confirmed(out=7))
    assert await bodies(views, shown) == [order_body(ended.order)]
    await project(log, store)
    assert await bodies(views, shown) == [order_body(ended.order)]


async def test_only_so_many_ended_orders_are_kept(store: OrderStore) -> None:
    log = ForgetfulLog()
    orders = [(await an_order(log, *JOURNEY)).order for _ in range(3)][::-1]
    await project(log, store)
    views = Noting(log, store)
    shown = Shown(views, 2)
    for _ in range(2):
        assert await bodies(views, shown) == [order_body(order) for order in orders]
    assert views.asked == [[order.id for order in orders], [orders[0].id]]


async def test_a_row_that_was_put_right_is_shown_as_it_says_now(store: OrderStore) -> None:
    log = ForgetfulLog()
    ended = (await an_order(log, *JOURNEY)).order
    await project(log, store)
    views = OrderViews(log, store)
    shown = Shown(views, 10)
    await bodies(views, shown)
    async with store.connection() as connection:
        await connection.execute("UPDATE orders SET amount_out = amount_out + 1")
        assert await bodies(views, shown) != [order_body(ended)]
        await connection.execute("UPDATE orders SET amount_out = amount_out - 1")
    assert await bodies(views, shown) == [order_body(ended)]
