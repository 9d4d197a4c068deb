"""One socket: what it waits for, what it was sent, and how it is closed."""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from libs.events.crash import crossing
from services.notifier import observe
from services.notifier.limits import Close, Limits

_TEXT_FRAME = 0x81


@dataclass(frozen=True, slots=True)
class Message:
    """One event, made once for all who receive it."""

    order_id: str
    version: int
    frame: bytes


def text_frame(payload: bytes) -> bytes:
    """An unmasked, uncompressed WebSocket text frame (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((_TEXT_FRAME, length)) + payload
    if length < 1 << 16:
        return bytes((_TEXT_FRAME, 126)) + length.to_bytes(2, "big") + payload
    return bytes((_TEXT_FRAME, 127)) + length.to_bytes(8, "big") + payload


class Subscriber:
    """Holds events back while its snapshot is read, then passes on what the snapshot does not have.

    Frames go straight to the transport: the same bytes for every receiver, no task and no await per socket, and the
    transport's own buffer says who is slow.
    """

    __slots__ = ("_held", "_held_bytes", "_limits", "_transport", "_versions", "_ws", "closing", "order_id", "user")

    def __init__(
        self, user: str, order_id: str | None, ws: web.WebSocketResponse, transport: asyncio.Transport, limits: Limits
    ) -> None:
        self.user, self.order_id = user, order_id
        self.closing: asyncio.Task[bool] | None = None
        self._ws, self._transport, self._limits = ws, transport, limits
        self._held: list[Message] | None = []
        self._held_bytes = 0
        self._versions: dict[str, int] | None = None

    def hold(self) -> None:
        """From now on keep events until `release`: a snapshot is about to be read."""
        self._held, self._held_bytes, self._versions = [], 0, None

    def release(self, versions: dict[str, int]) -> bool:
        """The snapshot, with these versions, is sent: pass on what came since. False: see `deliver`."""
        held, self._held, self._held_bytes, self._versions = self._held or [], None, 0, versions
        return all(self.deliver(message) for message in held)

    def settle(self) -> None:
        """The log is read past the snapshot: nothing that follows can be in it."""
        self._versions = None

    def deliver(self, message: Message) -> bool:
        """Pass one event on. False: one before it is missing, and only a fresh snapshot can help."""
        if self._held is not None:
            self._keep(message)
            return True
        if self._versions is not None and (seen := self._versions.get(message.order_id)) is not None:
            if message.version <= seen:
                return True
            if message.version != seen + 1:
                observe.version_skipped(message.order_id, expected=seen + 1, found=message.version)
                return False
            self._versions[message.order_id] = message.version
        self.send(message.frame)
        return True

    def send(self, frame: bytes) -> None:
        """Hand a frame to the transport; a socket that does not take what it is sent is closed."""
        if self.closing or self._transport.is_closing():
            return
        with crossing("socket.send"):
            self._transport.write(frame)
        if self._transport.get_write_buffer_size() > self._limits.unsent_bytes_max:
            self.close(Close.SLOW)

    def close(self, close: Close, reason: str = "") -> None:
        """Say why and go; a peer that does not answer in time is cut off."""
        if self.closing or self._ws.closed:
            return
        observe.closed(self.user, close)
        self._held, self._versions = None, None
        loop = asyncio.get_running_loop()
        self.closing = loop.create_task(self._ws.close(code=close.code, message=(reason or close.reason).encode()))
        # The handshake waits for whatever is unsent; a peer that never reads would keep it for ever.
        loop.call_later(self._limits.close_grace_s, self._transport.abort)

    def _keep(self, message: Message) -> None:
        assert self._held is not None
        self._held.append(message)
        self._held_bytes += len(message.frame)
        if len(self._held) > self._limits.held_events_max or self._held_bytes > self._limits.unsent_bytes_max:
            self.close(Close.SLOW)
