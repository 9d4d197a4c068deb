"""One listener: what it waits for, what it was sent, and how it is closed."""

import asyncio

from libs.events.crash import crossing
from services.notifier import observe
from services.notifier.limits import Close, Limits
from services.notifier.wire import Message, Wire


class Told(Message):
    """One event of an order, made once for all who receive it."""

    __slots__ = ("order_id", "position", "version")

    def __init__(self, body: object, cursor: str, order_id: str, version: int, position: int) -> None:
        super().__init__(body, kind="order", cursor=cursor)
        self.order_id, self.version, self.position = order_id, version, position


class Subscriber:
    """Holds events back while its snapshot or its history is read, then passes on what is not in it.

    What is sent goes straight to the transport: the same bytes for every receiver, no task and no await per listener,
    and the transport's own buffer says who is slow.
    """

    __slots__ = ("_held", "_held_bytes", "_limits", "_versions", "_wire", "closing", "joining", "orders", "user")

    def __init__(self, user: str, orders: set[str] | None, wire: Wire, limits: Limits) -> None:
        """`orders`: the ids it listens to; None: all of the user's."""
        self.user, self.orders = user, orders
        self.closing: asyncio.Task[object] | None = None
        self.joining = asyncio.Lock()
        """Who reads a snapshot or history for it: one at a time."""
        self._wire, self._limits = wire, limits
        self._held: list[Told] | None = []
        self._held_bytes = 0
        self._versions: dict[str, int] | None = None

    @property
    def live(self) -> bool:
        """Whether everything up to where the tail is was passed on."""
        return self._held is None and not self.closing

    def hold(self, *, forget: bool = True) -> None:
        """From now on keep events until a release: a snapshot is about to be read; `forget`: of all there is."""
        if forget or self._held is None:
            self._held, self._held_bytes = [], 0
        if forget:
            self._versions = None

    def release(self, versions: dict[str, int]) -> bool:
        """The snapshot, with these versions, is sent: pass on what came since. False: see `deliver`."""
        held, self._held, self._held_bytes = self._held or [], None, 0
        self._versions = {**(self._versions or {}), **versions}
        return all(self.deliver(told) for told in held)

    def release_after(self, position: int) -> None:
        """The history up to this position is sent: pass on what came after it."""
        held, self._held, self._held_bytes, self._versions = self._held or [], None, 0, None
        for told in held:
            if told.position > position:
                self.send(told)

    def settle(self) -> None:
        """The log is read past the snapshot: nothing that follows can be in it."""
        self._versions = None

    def deliver(self, told: Told) -> bool:
        """Pass one event on. False: one before it is missing, and only a fresh snapshot can help."""
        if self._held is not None:
            self._keep(told)
            return True
        if self._versions is not None and (seen := self._versions.get(told.order_id)) is not None:
            if told.version <= seen:
                return True
            if told.version != seen + 1:
                observe.version_skipped(told.order_id, expected=seen + 1, found=told.version)
                return False
            self._versions[told.order_id] = told.version
        self.send(told)
        return True

    def send(self, message: Message) -> None:
        """Hand a message to the transport; a listener that does not take what it is sent is closed."""
        transport = self._wire.transport
        if self.closing or transport.is_closing():
            return
        with crossing("socket.send"):
            transport.write(self._wire.encode(message))
        if transport.get_write_buffer_size() > self._limits.unsent_bytes_max:
            self.close(Close.SLOW)

    def notice_loss(self) -> None:
        """See whether the peer is still there."""
        self._wire.notice_loss()

    def close(self, close: Close, reason: str = "") -> None:
        """Say why and go; a peer that does not answer in time is cut off."""
        if self.closing or self._wire.closed:
            return
        observe.closed(self.user, close)
        self._held, self._versions = None, None
        loop = asyncio.get_running_loop()
        self.closing = loop.create_task(self._wire.close(close, reason or close.reason))
        # The handshake waits for whatever is unsent; a peer that never reads would keep it for ever.
        loop.call_later(self._limits.close_grace_s, self._wire.transport.abort)

    def _keep(self, told: Told) -> None:
        assert self._held is not None
        self._held.append(told)
        self._held_bytes += len(told.payload)
        if len(self._held) > self._limits.held_events_max or self._held_bytes > self._limits.unsent_bytes_max:
            self.close(Close.SLOW)
