"""Watches prices for orders that wait for theirs: one question per venue and look, however many orders wait.

An order whose price is met is woken by making its timer due; what follows is the ordinary way, with fresh quotes.
Several routers may watch at once: waking twice wakes once.
"""

import asyncio
from collections.abc import Sequence
from heapq import nsmallest
from typing import Protocol

from libs.events.errors import EventLogError
from libs.events.log import Snapshot
from libs.events.model import Status
from libs.events.order import Order
from libs.quoting.answer import Quote
from libs.quoting.choice import wanted_out
from libs.quoting.venues import Venues
from services.router import observe

LOOK_EVERY_S = 1.0
WAITING_MAX = 50_000  # orders of all partitions that are known at once; beyond: they take turns
LEARNED_AT_ONCE = 200  # reading one takes a tenth of a millisecond, and orders on their way to a route wait meanwhile
LOOKS_PER_TURN = 60  # then those that are not known have their turn; to know others takes seconds
OTHERS_KEPT_LOOKS = 10
PROBES_PER_PAIR = 16  # orders of a pair asked about in one look
# So many of them want least; the others take turns. A large order moves the price against itself, so that it may want
# least per unit and wait for ever: it must not hide those that want more.
LEAST_PER_PAIR = 8
# Between two times that an order is woken which came back each time, at the most: twice as many after each. What a
# router is told may differ for ever from what the watch is, as where shares of large orders are answered just in time.
IN_VAIN_LOOKS_MAX = 16

Pair = tuple[str, str]


class Log(Protocol):
    """What the watch needs of the log."""

    @property
    def partitions(self) -> int: ...

    async def timers(self, count: int, turn: int = 0) -> list[str]: ...

    async def hasten(self, order_ids: Sequence[str]) -> None: ...

    async def find_many(self, order_ids: Sequence[str]) -> dict[str, Snapshot]: ...


class PriceWatch:
    """Knows the open orders; asks about those of each pair that want least, and about the others in turn."""

    def __init__(self, log: Log, venues: Venues) -> None:
        self._log, self._venues = log, venues
        self._open: dict[str, Order] = {}
        self._others: set[str] = set()
        self._looks = 0
        self._woken: dict[str, tuple[int, int]] = {}  # from which look on again, and how many to wait after that

    async def run(self) -> None:
        """Look until cancelled. While the log is away nothing can be woken, and nothing is lost."""
        while True:
            try:
                await self.look()
            except EventLogError as error:
                observe.watch_failed(str(error))
            except Exception:
                # Without the watch no open order would ever be woken: next time, then.
                observe.watch_broken()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> int:
        """One look; gives how many orders were woken.

        Raises:
            EventLogError: the log is away.
        """
        await self._learn()
        pairs = list(self._by_pair().values())
        if not pairs:
            return 0
        # Those asked about last may be answered too late: each pair has its turn to be first.
        first = self._looks % len(pairs)
        probes = [order for orders in (*pairs[first:], *pairs[:first]) for order in _probes(orders, self._looks)]
        best = await self._best(probes)
        met = [order.id for order in probes if best[order.id] >= wanted_out(order) > 0 and self._may_be_woken(order.id)]
        waiting = await self._still_open(met) if met else []
        if waiting:
            await self._log.hasten(waiting)
            observe.woken(len(waiting))
        for order_id in met:
            del self._open[order_id]
            _, pause = self._woken.get(order_id, (0, 1))
            self._woken[order_id] = self._looks + pause, min(2 * pause, IN_VAIN_LOOKS_MAX)
        return len(waiting)

    def _may_be_woken(self, order_id: str) -> bool:
        return self._woken.get(order_id, (0, 1))[0] <= self._looks

    async def _still_open(self, order_ids: Sequence[str]) -> list[str]:
        """Woken by another router one may have failed since, and its timer be the pause before its next attempt."""
        held = await self._log.find_many(order_ids)
        return [each for each in order_ids if (now := held.get(each)) and now.order.status is Status.OPEN]

    async def _learn(self) -> None:
        turn = self._looks // LOOKS_PER_TURN
        waiting = await self._log.timers(WAITING_MAX // self._log.partitions, turn)
        there = set(waiting)
        self._open = {order_id: order for order_id, order in self._open.items() if order_id in there}
        self._looks += 1
        long_ago = self._looks - IN_VAIN_LOOKS_MAX
        self._woken = {one: again for one, again in self._woken.items() if again[0] > long_ago}
        # What waits for a retry now may wait for its price a moment later.
        self._others = set() if self._looks % OTHERS_KEPT_LOOKS == 0 else self._others & there
        unknown = [order_id for order_id in waiting if order_id not in self._open and order_id not in self._others]
        for begin in range(0, len(unknown), LEARNED_AT_ONCE):
            asked = unknown[begin : begin + LEARNED_AT_ONCE]
            found = await self._log.find_many(asked)
            for order_id in asked:
                if (held := found.get(order_id)) and held.order.status is Status.OPEN:
                    self._open[order_id] = held.order
                else:
                    self._others.add(order_id)

    def _by_pair(self) -> dict[Pair, list[Order]]:
        pairs: dict[Pair, list[Order]] = {}
        for order in self._open.values():
            pairs.setdefault((order.mint_in, order.mint_out), []).append(order)
        return pairs

    async def _best(self, orders: Sequence[Order]) -> dict[str, int]:
        found = await self._venues.ask(orders)
        best: dict[str, int] = {}
        for order, answers in zip(orders, found, strict=True):
            quoted = (answer.result.amount_out for answer in answers if isinstance(answer.result, Quote))
            best[order.id] = max(quoted, default=0)
        return best


def _probes(orders: Sequence[Order], look: int) -> list[Order]:
    """Users have equal parts of them: thousands of one user's orders must not hide those of others."""
    by_user: dict[str, list[Order]] = {}
    for order in orders:
        by_user.setdefault(order.user, []).append(order)
    users = list(by_user.values())
    firsts = [ranked for own in users for ranked in enumerate(nsmallest(LEAST_PER_PAIR, own, key=_wanted))]
    least = [
        order for _, order in nsmallest(LEAST_PER_PAIR, firsts, key=lambda ranked: (ranked[0], *_wanted(ranked[1])))
    ]
    turns = PROBES_PER_PAIR - LEAST_PER_PAIR
    places = [divmod(place, len(users)) for place in range(look * turns, (look + 1) * turns)]
    in_turn = [users[user][lap % len(users[user])] for lap, user in places]
    return list({order.id: order for order in (*least, *in_turn)}.values())


def _wanted(order: Order) -> tuple[float, str]:
    return wanted_out(order) / order.amount_in, order.id
