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

    Events wait in `deliver` for the next `flush`, so that a page of the log is one write for each listener: the same
    bytes for all, no task and no await per listener, and the transport's own buffer says who is slow.
    """

    __slots__ = (
        "_held",
        "_held_bytes",
        "_limits",
        "_reached",
        "_unsent",
        "_versions",
        "_wire",
        "joining",
        "left",
        "orders",
        "starts_over",
        "user",
    )

    def __init__(self, user: str, orders: set[str] | None, wire: Wire, limits: Limits) -> None:
        """`orders`: the ids it listens to; None: all of the user's."""
        self.user, self.orders = user, orders
        self.joining = asyncio.Lock()
        """Held while a snapshot or history is read for it: one at a time."""
        self.left = False
        """Whether the connection is gone: nobody may register it again."""
        self.starts_over = False
        """Whether it was reset: what was read for it before must not be sent any more."""
        self._wire, self._limits = wire, limits
        self._held: list[Told] | None = []
        self._held_bytes = self._reached = 0
        self._unsent: list[Message] = []
        self._versions: dict[str, int] | None = None

    @property
    def live(self) -> bool:
        """Whether everything up to where the tail is was passed on."""
        return self._held is None and not self._wire.closed

    @property
    def closed(self) -> bool:
        """Whether it was told to go, or has gone."""
        return self._wire.closed

    async def begin(self) -> None:
        """Its orders are there: the client is answered before it is sent anything."""
        await self._wire.begin()

    def hold(self, *, forget: bool = True) -> None:
        """Hold events back until a release: a snapshot is about to be read; `forget`: of all that it listens to."""
        if forget or self._held is None:
            self._held, self._held_bytes = [], 0
        if forget:
            self._versions, self._reached, self.starts_over = None, 0, False

    def drop(self, order_ids: set[str]) -> None:
        """Keep nothing of these orders: their snapshot will not come."""
        if self._held is not None:
            self._held = [told for told in self._held if told.order_id not in order_ids]

    def release(self, versions: dict[str, int]) -> bool:
        """The snapshot, with these versions, is sent: pass on what came since. False: see `deliver`."""
        held, self._held, self._held_bytes = self._held or [], None, 0
        self._versions = {**(self._versions or {}), **versions}
        whole = all(self.deliver(told) for told in held)
        self.flush()
        return whole

    def release_after(self, position: int) -> None:
        """The history up to this position is sent: pass on what came after it."""
        held, self._held, self._held_bytes, self._versions = self._held or [], None, 0, None
        self._reached = position  # the tail may still be behind it
        for told in held:
            self.deliver(told)
        self.flush()

    def settle(self) -> bool:
        """The log is read past the snapshot: nothing that follows can be in it. False: what is held still may be."""
        if self._held is None:
            self._versions = None
        return self._held is None

    def deliver(self, told: Told) -> bool:
        """Pass one event on with the next `flush`. False: one before it is missing; only a fresh snapshot can help."""
        if self._held is not None:
            self._keep(told)
            return True
        if told.position <= self._reached:
            return True
        if self._versions is not None and (seen := self._versions.get(told.order_id)) is not None:
            if told.version <= seen:
                return True
            if told.version != seen + 1:
                observe.version_skipped(told.order_id, expected=seen + 1, found=told.version)
                return False
            self._versions[told.order_id] = told.version
        self._unsent.append(told)
        return True

    def send(self, *messages: Message) -> None:
        """Pass messages on now, behind what was delivered."""
        self._unsent += messages
        self.flush()

    def flush(self) -> None:
        """Hand over what waits; a listener that does not take what it is sent is closed."""
        messages, self._unsent = self._unsent, []
        if not messages or self._wire.closed:
            return
        with crossing("socket.send"):
            unsent_bytes = self._wire.send(messages)
        if unsent_bytes > self._limits.unsent_bytes_max:
            self.close(Close.SLOW)

    def close(self, close: Close, reason: str = "") -> None:
        """Say why and go."""
        if close is not Close.SLOW:
            self.flush()
        if self._wire.closed:
            return
        observe.closed(self.user, close)
        self._held, self._versions = None, None
        self._wire.close(close, reason or close.reason)

    def _keep(self, told: Told) -> None:
        assert self._held is not None
        self._held.append(told)
        self._held_bytes += len(told.payload)
        if len(self._held) > self._limits.held_events_max or self._held_bytes > self._limits.unsent_bytes_max:
            self._held, self._held_bytes = [], 0  # also of one that has left already: nobody will be told of them
            self.close(Close.SLOW)
