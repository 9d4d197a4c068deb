"""A worker's periodic duties, beside its items: neither waits for the other."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from libs.events.crash import crossing
from libs.events.errors import EventLogError
from libs.events.in_hand import InHand
from libs.events.model import AttemptFailed
from libs.events.reactions import NEXT_ACTOR
from libs.events.work import Item, Work
from libs.events.worker_limits import WorkerLimits


class Keeper:
    """Keeps items in hand from being claimed, claims those of workers that are gone, and moves what is due."""

    def __init__(
        self,
        log: Work,
        service: str,
        consumer: str,
        limits: WorkerLimits,
        *,
        in_hand: InHand,
        begin: Callable[[Item], None],
    ) -> None:
        """`begin` is told of each item that was claimed; it may be one that is in hand."""
        self._log, self._service, self._consumer, self._limits = log, service, consumer, limits
        self._in_hand, self._begin = in_hand, begin
        self._say = structlog.get_logger().bind(consumer=consumer)

    async def run(self) -> None:
        """Go on until cancelled."""
        limits = self._limits
        duties = [self._every(limits.renew_every_s, self._renew), self._every(limits.claim_every_s, self._claim)]
        if NEXT_ACTOR[AttemptFailed] == self._service:
            duties.append(self._every(limits.timers_every_s, self._move_due))
        await asyncio.gather(*duties)

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - replicas must not march in step
            try:
                await act()
            except EventLogError as error:
                self._say.debug("upkeep_failed", reason=str(error))
            except Exception:
                # Without this duty retries would never come and items in hand would be taken away: next time, then.
                self._say.exception("upkeep_broken", duty=act.__name__)

    async def _renew(self) -> None:
        with crossing("work.renew"):
            await self._log.renew(self._in_hand.items())

    async def _claim(self) -> None:
        with crossing("work.claim"):
            claimed = await self._log.claim(self._service, self._consumer, self._limits.claim_idle_ms)
        for item in claimed:
            self._say.info("item_claimed", item=item.id, claimed_order=item.order_id, deliveries=item.deliveries)
            self._begin(item)

    async def _move_due(self) -> None:
        with crossing("work.timers"):
            await self._log.move_due()
