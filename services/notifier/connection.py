"""A listener's connection once HTTP is over: all that is kept of it while it lasts, and how it ends."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.notifier import observe
from services.notifier.access import Access
from services.notifier.hub import Hub
from services.notifier.limits import Close, Limits
from services.notifier.subscriber import Subscriber
from services.notifier.wheel import Wheel
from services.notifier.wire import Message

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all connections of this process share."""

    hub: Hub
    access: Access
    wheel: Wheel
    limits: Limits


class Connection(asyncio.Protocol):
    """What WebSockets and event streams have in common: `Wire`, with a token that ends and a peer that may not answer.

    No task, no timer, no buffer of its own: there are thousands.
    """

    __slots__ = ("_around", "_cut_at", "_expires_at", "_talk", "subscriber", "transport", "wake_tick")

    transport: asyncio.Transport

    def __init__(self, around: Surroundings, orders: set[str] | None) -> None:
        self._around = around
        self._cut_at = self._expires_at = NEVER
        self._talk: asyncio.Task[None] | None = None
        self.wake_tick = 0
        self.subscriber = Subscriber("", orders, self, around.limits)

    def begin(self, transport: asyncio.Transport) -> None:
        """The connection is this object's from now on."""
        self.transport = transport
        self._around.access.opened()

    def join(self, user: str, expires_at: datetime, cursor: str | None) -> None:
        """The client may listen: it gets what it missed, and then everything."""
        self.subscriber.user = user
        self._around.access.opened_for(user)
        observe.subscribed(user, self.subscriber.orders)
        self.lasts_until(expires_at)
        self._talk = asyncio.create_task(self._joined(cursor))

    async def _joined(self, cursor: str | None) -> None:
        await self._around.hub.join_or_close(self.subscriber, cursor)
        self._talk = None

    def lasts_until(self, expires_at: datetime) -> None:
        """The token ends then, and the connection with it."""
        left_s = (expires_at - datetime.now(UTC)).total_seconds()
        self._expires_at = _now() + max(0.0, left_s)
        self._look_again()

    # The wire

    @property
    def closed(self) -> bool:
        return self._cut_at != NEVER or self.transport.is_closing()

    def send(self, messages: Sequence[Message]) -> int:
        """See `Wire.send`."""
        self.transport.write(b"".join(map(self.encode, messages)))
        return self.transport.get_write_buffer_size()

    def encode(self, message: Message) -> bytes:
        """The message as this client reads it."""
        raise NotImplementedError

    def close(self, close: Close, reason: str) -> None:
        """See `Wire.close`."""
        raise NotImplementedError

    def end(self, last: bytes) -> None:
        """Send this and nothing behind it. What is unsent is still sent, but a peer that never reads is cut off."""
        if self.closed:
            return
        self.transport.write(last)
        self._cut_at = _now() + self._around.limits.close_grace_s
        self._look_again()

    # What the loop and the wheel do

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        access, subscriber = self._around.access, self.subscriber
        self._cut_at = 0.0
        access.closed()
        if subscriber.user:
            self._around.hub.leave(subscriber)
            access.closed_for(subscriber.user)
            observe.left(subscriber.user, subscriber.orders)

    def look(self, now: float) -> float | None:
        """See `Turning.look`."""
        if self._cut_at != NEVER:
            if now >= self._cut_at:
                self.transport.abort()
                return None
            return self._cut_at
        if self.transport.is_closing():
            return None
        if now >= self._expires_at:
            self.subscriber.close(Close.EXPIRED)
            return None
        return self._next_look(now)

    def _next_look(self, now: float) -> float | None:  # noqa: ARG002 - some need it
        return self._expires_at if self._expires_at != NEVER else None

    def _look_again(self) -> None:
        """Something is due at another time than before."""
        when = self._cut_at if self._cut_at != NEVER else self._next_look(_now())
        if when is not None:
            self._around.wheel.look_at(when, self)


def _now() -> float:
    return asyncio.get_running_loop().time()
