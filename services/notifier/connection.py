"""A listener's connection once HTTP is over: all that is kept of it while it lasts, and how it ends."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from libs.service.strangers import Strangers
from libs.service.tokens import Claims
from services.notifier import observe
from services.notifier.access import Access
from services.notifier.hub import Hub
from services.notifier.limits import Close, Limits
from services.notifier.subscriber import Subscriber
from services.notifier.wheel import Wheel
from services.notifier.wire import Message

NEVER = float("inf")

Answer = Callable[[], Awaitable[None]]
"""Sends the HTTP answer: from then on the connection stands."""


@dataclass(frozen=True, slots=True)
class Context:
    """What all connections of this process share."""

    hub: Hub
    access: Access
    strangers: Strangers
    wheel: Wheel
    limits: Limits


class Connection(asyncio.Protocol):
    """What WebSockets and event streams have in common: `Wire`, with a token that ends and a peer that may not answer.

    No task, no timer, no buffer of its own: there are thousands.
    """

    __slots__ = (
        "_context",
        "_cut_at",
        "_expires_at",
        "_talk",
        "_unanswered",
        "refused",
        "subscriber",
        "transport",
        "wake_tick",
    )

    transport: asyncio.Transport
    """HTTP's own until the client is answered: it tells whether the client is still there."""

    def __init__(self, context: Context, orders: set[str] | None) -> None:
        self._context = context
        self._cut_at = self._expires_at = NEVER
        self._talk: asyncio.Task[None] | None = None
        self._unanswered: Answer | None = None
        self.refused: Close | None = None
        """Why it ended before the client was answered."""
        self.wake_tick = 0
        self.subscriber = Subscriber("", orders, self, context.limits)

    def stand(self, transport: asyncio.Transport) -> None:
        """The client is answered: its connection belongs to this object from now on."""
        if self._unanswered is None:  # else it has a place already
            self._context.access.opened()
        self.transport, self._unanswered = transport, None
        self._look_again()

    def join(self, claims: Claims, cursor: str | None, answer: Answer | None = None) -> Coroutine[None, None, None]:
        """The client may listen: it gets what it missed, and then everything.

        Where it was not answered yet, `answer` does so once it is known that its orders are there; else see `refused`.
        """
        self._unanswered = answer
        if answer is not None:  # it counts from here: reading may take seconds
            self._context.access.opened()
        self.subscriber.user = claims.user_id
        self._context.access.opened_for(claims.user_id)
        observe.subscribed(claims.user_id, self.subscriber.orders)
        self.lasts_until(claims.expires_at)
        return self._joined(cursor)

    async def _joined(self, cursor: str | None) -> None:
        self._talk = asyncio.current_task()
        try:
            await self._context.hub.joining.join_or_close(self.subscriber, cursor)
        finally:
            self._talk = None
            if self._unanswered is not None:
                self.refused = self.refused or Close.TRY_LATER  # it has left
                self._context.access.closed()
                self._forget()

    def lasts_until(self, expires_at: datetime) -> None:
        """The token ends then, and the connection with it."""
        left_s = (expires_at - datetime.now(UTC)).total_seconds()
        self._expires_at = _now() + max(0.0, left_s)
        if self._unanswered is None:
            self._look_again()

    # The wire

    async def begin(self) -> None:
        """See `Wire.begin`."""
        if self._unanswered is None or self.refused is not None:
            return
        try:
            await self._unanswered()
        except ConnectionResetError:  # it has left
            self.refused = Close.TRY_LATER

    @property
    def closed(self) -> bool:
        return self.refused is not None or self._cut_at != NEVER or self.transport.is_closing()

    def send(self, messages: Sequence[Message]) -> int:
        """See `Wire.send`."""
        if self._unanswered is not None:
            return 0  # that can only be a reset, and the client has nothing to forget yet
        self.transport.write(b"".join(map(self.encode, messages)))
        return self.transport.get_write_buffer_size()

    def encode(self, message: Message) -> bytes:
        """The message as this client reads it."""
        raise NotImplementedError

    def close(self, close: Close, reason: str) -> None:
        """See `Wire.close`."""
        if self._unanswered is not None:
            self.refused = close
        else:
            self.say_farewell(close, reason)

    def say_farewell(self, close: Close, reason: str) -> None:
        """Say why, and `end`."""
        raise NotImplementedError

    def end(self, last: bytes) -> None:
        """Send this as the last thing. What is unsent is still sent, but a client that never reads is cut off."""
        if self.closed:
            return
        self.transport.write(last)
        self._cut_at = _now() + self._context.limits.close_grace_s
        self._look_again()

    # What the loop and the wheel do

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self._cut_at = 0.0
        self._context.wheel.forget(self)
        self._context.access.closed()
        if self.subscriber.user:
            self._forget()

    def _forget(self) -> None:
        subscriber = self.subscriber
        self._context.hub.joining.leave(subscriber)
        self._context.access.closed_for(subscriber.user)
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
        """The time of the next `look` has changed."""
        when = self._cut_at if self._cut_at != NEVER else self._next_look(_now())
        if when is not None:
            self._context.wheel.look_at(when, self)


def _now() -> float:
    return asyncio.get_running_loop().time()
