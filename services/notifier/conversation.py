"""The conversation on a WebSocket: who is there, what it listens to, and whether it is still alive."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress

from libs.service.tokens import Claims, InvalidToken
from services.notifier import observe
from services.notifier.access import ListenRequest
from services.notifier.connection import NEVER, Connection, Context
from services.notifier.frames import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    BadFrame,
    FrameReader,
    check_close,
    close_frame,
    frame,
)
from services.notifier.limits import Close
from services.notifier.messages import error_message, is_list_of_texts, message, parsed
from services.notifier.wire import Message

_PING = frame(PING)
_NORMAL = 1000

Later = Coroutine[None, None, None]


class Conversation(Connection):
    """One WebSocket. What is said is answered in order, one after the other."""

    __slots__ = ("_asked", "_auth_by", "_broken", "_frames", "_heard_at", "_pinged_at", "_unheard")

    def __init__(self, context: Context, asked: ListenRequest) -> None:
        super().__init__(context, asked.orders)
        self._asked: ListenRequest | None = None if asked.claims else asked
        self._frames = FrameReader(context.limits.message_bytes_max)
        self._unheard: list[bytes] = []
        self._broken = False
        self._heard_at = self._pinged_at = 0.0
        self._auth_by = NEVER

    def stand(self, transport: asyncio.Transport) -> None:
        """See `Connection.stand`."""
        self._heard_at = asyncio.get_running_loop().time()
        if self._asked:
            self._auth_by = self._heard_at + self._context.limits.auth_wait_s
        super().stand(transport)
        if self._asked:
            self._context.strangers.came(self, self._context.limits.strangers_max)

    def cut(self) -> None:
        """See `Stranger.cut`."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._context.strangers.gone(self)
        super().connection_lost(exc)

    # The wire

    def encode(self, message: Message) -> bytes:
        return message.frame

    def say_farewell(self, close: Close, reason: str) -> None:
        self._end(close.code, reason)

    def _end(self, code: int, reason: str = "") -> None:
        """Send a close frame; until the client answers with its own, what it sends is read and ignored."""
        if not self.closed:
            self.end(close_frame(code, reason))
            with suppress(OSError):  # it has left already
                self.transport.write_eof()

    # What comes in

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._heard_at = asyncio.get_running_loop().time()
        if self._broken:
            return
        try:
            for kind, payload in self._frames.feed(data):
                self._received(kind, payload)
                if self._broken:
                    return
        except BadFrame as bad:
            self._broken = True
            self._end(bad.code)

    def _received(self, kind: int, payload: bytes) -> None:
        if kind == CLOSE:
            check_close(payload)
            self._broken = True  # nothing may follow
            self._end(int.from_bytes(payload[:2], "big") if payload else _NORMAL)
            self.transport.close()
        elif self.closed or kind == PONG:
            return
        elif kind == PING:
            self.transport.write(frame(PONG, payload))
            if self.transport.get_write_buffer_size() > self._context.limits.unsent_bytes_max:
                self.subscriber.close(Close.SLOW)
        else:
            self._unheard.append(payload if kind == TEXT else b"")
            if self._talk is None:
                self._go_on()
            elif len(self._unheard) > self._context.limits.unheard_messages_max:
                self.transport.pause_reading()

    def _go_on(self) -> None:
        """Answer the messages that wait, up to the first that takes time."""
        while self._unheard and not self.closed:
            later = self._answer(self._unheard.pop(0))
            if later is not None:
                self._talk = asyncio.create_task(self._take_time(later))
                return
        if not self.transport.is_closing():
            self.transport.resume_reading()

    async def _take_time(self, later: Later) -> None:
        try:
            await later
        except Exception as error:
            observe.snapshot_failed(self.subscriber.user, repr(error))
            self.subscriber.close(Close.TRY_LATER)
        self._talk = None
        self._go_on()

    async def _joined(self, cursor: str | None) -> None:
        await super()._joined(cursor)
        if self.refused is None:
            self._go_on()

    # What is said

    def _answer(self, text: bytes) -> Later | None:
        """Answer one message of the client; if that takes time, gives a coroutine that does it."""
        request = parsed(text)
        subscriber = self.subscriber
        if self._asked is not None:
            claims = self._claims(request) if request.get("op") == "auth" else None
            subscriber.close(Close.UNAUTHORIZED) if claims is None else self._sign_in(claims)
            return None
        match request.get("op"):
            case "ping":
                subscriber.send(message("pong"))
            case "auth" if "ticket" in request:
                return self._renew_by_ticket(str(request["ticket"]))
            case "auth":
                self._renew(self._claims(request))
            case "subscribe":
                return self._subscribe(request.get("orderIds"))
            case "unsubscribe":
                self._unsubscribe(request.get("orderIds"))
            case None:
                subscriber.send(error_message("bad_message", 'A message is a JSON object with "op".'))
            case _:
                subscriber.send(error_message("unknown_op", 'Known are "auth", "ping", "subscribe" and "unsubscribe".'))
        return None

    def _sign_in(self, claims: Claims) -> None:
        access, subscriber, asked = self._context.access, self.subscriber, self._asked
        self._asked, self._auth_by = None, NEVER
        self._context.strangers.gone(self)
        if access.too_many(claims.user_id):
            subscriber.close(Close.TOO_MANY)
        elif subscriber.orders and not all(map(access.is_order_id, subscriber.orders)):
            subscriber.close(Close.NOT_FOUND)
        else:
            self._talk = asyncio.create_task(self.join(claims, asked.cursor if asked else None))

    def _renew(self, claims: Claims | None) -> None:
        if claims is None or claims.user_id != self.subscriber.user:
            return self.subscriber.close(Close.UNAUTHORIZED)
        self.lasts_until(claims.expires_at)
        return self.subscriber.send(message("authenticated", expiresAt=claims.expires_at.isoformat()))

    async def _renew_by_ticket(self, ticket: str) -> None:
        # A client that uses an API key has no token to renew with.
        self._renew(await self._context.access.take_ticket(ticket))

    def _subscribe(self, wanted: object) -> Later | None:
        """Listen to more orders: all of these or none."""
        subscriber, limits = self.subscriber, self._context.limits
        if (orders := self._own_choice(wanted)) is None or not is_list_of_texts(wanted):
            return None
        if len(orders | set(wanted)) > limits.orders_per_socket_max:
            detail = f"A socket carries at most {limits.orders_per_socket_max} orders by name."
            subscriber.send(error_message("too_many_orders", detail))
            return None
        return self._subscribed(wanted)

    async def _subscribed(self, wanted: Sequence[str]) -> None:
        context, subscriber = self._context, self.subscriber
        if all(map(context.access.is_order_id, wanted)) and await context.hub.joining.subscribe(subscriber, wanted):
            return subscriber.send(message("subscribed", orderIds=sorted(subscriber.orders or ())))
        return subscriber.send(error_message("order_not_found", "You have no order with one of these ids."))

    def _unsubscribe(self, wanted: object) -> None:
        if (orders := self._own_choice(wanted)) is not None and is_list_of_texts(wanted):
            self._context.hub.joining.unsubscribe(self.subscriber, wanted)
            self.subscriber.send(message("unsubscribed", orderIds=sorted(orders)))

    def _own_choice(self, wanted: object) -> set[str] | None:
        """The orders it listens to, if it may change them so; else it is told why not."""
        if not is_list_of_texts(wanted):
            self.subscriber.send(error_message("bad_message", 'Send {"op": …, "orderIds": ["…"]}.'))
            return None
        if self.subscriber.orders is None:
            detail = "This socket carries all of your orders; connect with ?orderId= to choose."
            self.subscriber.send(error_message("subscribed_to_all", detail))
        return self.subscriber.orders

    def _claims(self, request: Mapping[str, object]) -> Claims | None:
        try:
            return self._context.access.verify(str(request.get("token", "")))
        except InvalidToken:
            return None

    # Whether it is there

    def look(self, now: float) -> float | None:
        """See `Turning.look`."""
        if self._asked is not None and now >= self._auth_by and not self.closed:
            self.subscriber.close(Close.UNAUTHORIZED)
            return None
        return super().look(now)

    def _next_look(self, now: float) -> float | None:
        heartbeat_s = self._context.limits.heartbeat_s
        if not self.transport.is_reading():  # we do not read it now, so its silence means nothing
            self._heard_at = now
        silent_until = self._heard_at + heartbeat_s
        if self._pinged_at > self._heard_at:
            if now >= self._pinged_at + heartbeat_s / 2:
                self.transport.abort()
                return None
            silent_until = self._pinged_at + heartbeat_s / 2
        elif now >= silent_until:
            self.transport.write(_PING)
            self._pinged_at = now
            silent_until = now + heartbeat_s / 2
        return min(silent_until, self._expires_at, self._auth_by)
