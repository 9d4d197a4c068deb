"""Which of the orders that wait for their price a watch asks about."""

from collections.abc import Sequence
from itertools import pairwise

from libs.events.log import Snapshot
from libs.events.model import Reason, Status, Terms
from libs.events.order import Order
from libs.quoting.answer import Answer, NoQuote, Quote
from services.router.prices import IN_VAIN_LOOKS_MAX, PriceWatch
from tests.builders import SOL, a_request, as_one

ANSWERED_IN_TIME = 5


class Waiting:
    """A log with one open order for each of twenty tokens; all but the last want more than anybody gives."""

    partitions = 1

    def __init__(self) -> None:
        self.hastened: list[str] = []
        self.held: dict[str, Snapshot] = {}
        for number in range(20):
            _, now = a_request(1)
            terms = Terms(limit_price="1", min_out=100 if number == 19 else 10**9)
            order = now.order.model_copy(
                update={"mint_out": f"mint-{number}", "status": Status.OPEN, "terms": terms},
            )
            self.held[order.id] = Snapshot(order, now.event)

    async def timers(self, count: int, turn: int = 0) -> list[str]:
        return list(self.held)

    async def find_many(self, order_ids: Sequence[str]) -> dict[str, Snapshot]:
        return {order_id: self.held[order_id] for order_id in order_ids}

    async def hasten(self, order_ids: Sequence[str]) -> None:
        self.hastened += order_ids


class Slow:
    """Of a long list it answers the beginning before the deadline."""

    name = "raydium"

    async def quote_many(self, orders: Sequence[Order]) -> list[Answer]:
        quote = Quote(100, "pool", 1, SOL, 5_000, None, {})
        late = NoQuote(Reason.VENUES_UNAVAILABLE, "no answer within 1500 ms")
        return [Answer("raydium", 1, quote if place < ANSWERED_IN_TIME else late) for place, _ in enumerate(orders)]


async def test_of_more_pairs_than_a_venue_answers_in_time_each_has_its_turn() -> None:
    log = Waiting()
    watch = PriceWatch(log, as_one(Slow()))
    woken = [await watch.look() for _ in range(20)]
    assert sum(woken) >= 1
    assert set(log.hastened) == {list(log.held)[-1]}


class Everybody:
    """Gives what is wanted to whoever watches; whoever is woken finds that it does not, and waits again."""

    name = "raydium"
    gives = 10**9

    async def quote_many(self, orders: Sequence[Order]) -> list[Answer]:
        return [Answer("raydium", 1, Quote(self.gives, "pool", 1, SOL, 5_000, None, {})) for _ in orders]


async def test_who_is_woken_in_vain_again_and_again_is_woken_less_and_less_but_not_too_seldom() -> None:
    log = Waiting()
    watch = PriceWatch(log, as_one(Everybody()))
    looks: dict[str, list[int]] = {}
    for look in range(120):
        log.hastened.clear()
        await watch.look()
        for order_id in log.hastened:
            looks.setdefault(order_id, []).append(look)
    assert len(looks) == 20
    for woken in looks.values():
        assert [after - before for before, after in pairwise(woken)] == [1, 2, 4, 8, 16, 16, 16, 16, 16, 16]


async def test_after_a_while_without_the_price_he_is_woken_as_at_first() -> None:
    log, market = Waiting(), Everybody()
    watch = PriceWatch(log, as_one(market))
    for _ in range(20):
        await watch.look()
    market.gives = 0
    for _ in range(2 * IN_VAIN_LOOKS_MAX):
        await watch.look()
    market.gives = 10**9
    assert [await watch.look() for _ in range(3)] == [20, 20, 0]
