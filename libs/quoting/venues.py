"""All venues, asked as one; a large order is offered to them in shares, too."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from libs.events.order import Order
from libs.quoting.answer import Answer
from libs.quoting.splitting import rivals, shares, split
from libs.quoting.venue import Venue, question_of

# Shares are a dozen times the questions, and others wait behind them: what comes while so many large orders are being
# split goes over one venue, as all did before.
SPLITS_AT_ONCE_MAX = 16
# Shares may take as long as the answers for the whole took, and so much more: small orders asked about with a large one
# wait for it, and a venue that hangs only then must not keep them.
SPLIT_MORE_S = 0.2

Large = tuple[Order, list[Answer], Sequence[str]]
"""An order, the answers for the whole of it, and the venues to ask for shares."""


class Venues:
    """The market as far as it is configured."""

    def __init__(self, venues: Sequence[Venue], split_from_bps: int) -> None:
        """`split_from_bps`: how far the best quote must move its price for an order to be split; 10000: never."""
        self._venues, self._split_from_bps = {venue.name: venue for venue in venues}, split_from_bps
        self._splitting = 0

    @property
    def count(self) -> int:
        """How many there are: so many answers each order gets, and behind them what they give together, if more."""
        return len(self._venues)

    async def ask(self, orders: Sequence[Order]) -> list[list[Answer]]:
        """For each order every venue's answer within the deadline; trouble is an answer too, never an error."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        by_venue = await asyncio.gather(*(venue.quote_many(orders) for venue in self._venues.values()))
        found = [[answers[place] for answers in by_venue] for place in range(len(orders))]
        large = [
            (order, answers, able)
            for order, answers in zip(orders, found, strict=True)
            if (able := rivals(order, answers, self._split_from_bps))
        ]
        if large:
            await self._split_some(large, loop.time() - began + SPLIT_MORE_S)
        return found

    async def _split_some(self, large: Sequence[Large], within_s: float) -> None:
        large = large[: SPLITS_AT_ONCE_MAX - self._splitting]
        self._splitting += len(large)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await asyncio.gather(*(self._split(*one) for one in large))
        finally:
            self._splitting -= len(large)

    async def _split(self, order: Order, answers: list[Answer], able: Sequence[str]) -> None:
        question = question_of(order)
        ladders = await asyncio.gather(*(
            self._venues[name].ask_many([
                question._replace(amount_in=share) for share in shares(order.amount_in, first=not place)
            ])
            for place, name in enumerate(able)
        ))  # fmt: skip
        together = split(order, answers, ladders)
        if together:
            answers.append(together)
