"""What was delivered and is not written yet."""

import asyncio
from collections.abc import Collection

from services.notifier import observe
from services.notifier.limits import Limits
from services.notifier.subscriber import Subscriber

LATEST_MS = 2**63  # later than any event


class Unsent:
    """Entries of a page, for each listener one write, whatever it is."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._receivers: set[Subscriber] = set()
        self._delivered, self._oldest_ms = 0, LATEST_MS

    def add(self, receivers: Collection[Subscriber], at_ms: int) -> None:
        """An entry of then was delivered to these."""
        self._receivers.update(receivers)
        self._delivered += len(receivers)
        self._oldest_ms = min(self._oldest_ms, at_ms)

    async def flush(self) -> None:
        """Write all of it; others have their turn meanwhile."""
        receivers, self._receivers = self._receivers, set()
        for number, subscriber in enumerate(receivers, start=1):
            subscriber.flush()
            if number % self._limits.writes_at_once == 0:
                await asyncio.sleep(0)  # the turn of others
        if self._delivered:
            observe.delivered(self._delivered, self._oldest_ms)
            self._delivered, self._oldest_ms = 0, LATEST_MS
