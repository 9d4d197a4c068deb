"""Which of the orders that wait for their price a watch asks about."""

from collections.abc import Sequence

from libs.events.log import Snapshot
from libs.events.model import Reason, Status, Terms
from libs.events.order import Order
from libs.quoting.answer import Answer, NoQuote, Quote
from services.router.prices import PriceWatch
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
