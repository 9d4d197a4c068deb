"""Passes each event of the log on to its listeners: decoded and serialised once, and only if there are any."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress

from libs.events.ids import Position
from libs.events.log import Entry
from libs.orders.resume import Log
from services.notifier import observe
from services.notifier.joining import Joining
from services.notifier.known import Views
from services.notifier.limits import Close, Limits
from services.notifier.listeners import Listeners
from services.notifier.reached import Reached
from services.notifier.telling import Telling
from services.notifier.unsent import Unsent


class Hub:
    """Everybody who listens, fed by one tail of the log."""

    def __init__(self, log: Log, views: Views, limits: Limits) -> None:
        """`log` goes back as far as cursors do."""
        self._limits = limits
        self.listeners = Listeners()
        self._reached = Reached(log, self.listeners, limits)
        self._telling = Telling(self._reached, views, limits)
        self.joining = Joining(log, self.listeners, self._reached, self._telling, limits)
        self._unsent = Unsent(limits)
        self.open = False
        """Whether the log is being read, so that a socket may join."""

    async def drain(self) -> None:
        """Close every socket with a resumable code, and tell each another time to come back."""
        self.open = False
        everybody = list(self.listeners)
        observe.draining(len(everybody))
        for subscriber in everybody:
            wait_ms = random.randrange(self._limits.reconnect_spread_ms)  # noqa: S311 - spread, not secrecy
            subscriber.close(Close.RESTARTING, f"restarting, reconnect in {wait_ms} ms")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.close_grace_s):
                await self.listeners.until_empty()

    async def beat(self) -> None:
        """Send everybody who is up to date a heartbeat: a sign of life, with a cursor to come back to."""
        await self._reached.beat()

    # What the tail calls

    async def prepare(self, entries: Sequence[Entry]) -> None:
        """Learn what `deliver` will need.

        Raises:
            LogUnavailable, StoreUnavailable: it cannot be asked for now.
        """
        told = (entry.fields for entry in entries)
        await self._telling.learn(one for one in told if self.listeners.want(one["user"], one["subject"]))

    def deliver(self, entry: Entry) -> int:
        """Hand one entry to everybody who listens, with the next `flush`; gives how many."""
        receivers = self.listeners.of(entry.fields)
        told = self._telling.told(entry) if receivers else None
        if told is None:
            return 0
        for subscriber in receivers:
            if not subscriber.deliver(told):
                self.joining.again(subscriber)
        self._unsent.add(receivers, entry.at.ms)
        return len(receivers)

    async def flush(self) -> None:
        """Write what was delivered."""
        await self._unsent.flush()

    def settle(self, at: Mapping[int, Position]) -> None:
        """The tail is here: listeners whose snapshot is older need not compare versions any more."""
        self._reached.settle(at)

    def pause(self) -> None:
        """Entries are missing: nobody may join before the log is read again."""
        self.open = False

    def start_over(self) -> None:
        """The tail begins (again) at the tips: present listeners may have missed something."""
        self.open = True
        self._reached.start_over()
        for subscriber in list(self.listeners):
            self.joining.again(subscriber)
