"""Who listens to what. Each event is decoded and serialised once, and only if somebody does."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from libs.events.crash import crossing
from libs.events.ids import Cursor, Position, partition_of_user
from libs.events.log import Entry
from libs.orders.resume import Log, NotResumable, pages_after, position_of
from services.notifier import observe
from services.notifier.known import Views
from services.notifier.limits import Close, Limits
from services.notifier.listeners import Listeners
from services.notifier.reached import Reached
from services.notifier.subscriber import Subscriber
from services.notifier.telling import Telling
from services.notifier.unsent import Unsent
from services.notifier.wire import Message

_MISSING = "Events are missing on our side."
_RESET = Message({"type": "reset", "reason": _MISSING}, kind="reset")


class Hub:
    """Listeners by user and by order, fed by one tail of the log."""

    def __init__(self, log: Log, views: Views, limits: Limits) -> None:
        """`log` goes back as far as cursors do."""
        self._log, self._limits = log, limits
        self.listeners = Listeners()
        self._reached = Reached(log, self.listeners, limits)
        self._telling = Telling(self._reached, views, limits)
        self._joining_again: set[asyncio.Task[None]] = set()
        self._unsent = Unsent(limits)
        self._empty = asyncio.Event()
        self.open = False
        """Whether the log is being read, so that a socket may join."""

    # What listeners do

    async def join(self, subscriber: Subscriber, cursor: str | None = None) -> bool:
        """Send what happened since `cursor`, else a snapshot, and then everything that follows.

        False: no such order, or not this user's; then it has not begun. For who has left nothing is read.

        Raises:
            LogUnavailable: the orders cannot be read now.
        """
        async with self._joining(subscriber):
            # Registered first, read second: what is committed in between is in both, and dropped by its version or
            # position. The other way round it would be in neither.
            self.listeners.add(subscriber, subscriber.orders)
            subscriber.hold()
            if subscriber.orders is None:
                await subscriber.begin()
            if cursor is None:
                return await self._snapshot(subscriber, subscriber.orders)
            try:
                return await self._resume(subscriber, cursor)
            except NotResumable as why:
                observe.not_resumed(subscriber.user, str(why))
                reset = Message({"type": "reset", "reason": str(why)}, kind="reset")
                subscriber.starts_over = False  # what is held now is behind the snapshot
                return await self._snapshot(subscriber, subscriber.orders, reset)

    async def subscribe(self, subscriber: Subscriber, order_ids: Sequence[str]) -> bool:
        """Listen to these orders too. False, and nothing changes: one of them is not there, or not this user's."""
        async with self._joining(subscriber):
            assert subscriber.orders is not None, "it listens to all orders already"
            new = {order_id for order_id in order_ids if order_id not in subscriber.orders}
            wanted, told = new, self._reached.of(subscriber.user)
            if subscriber.starts_over:  # what it missed of its others is before that place, too
                wanted, told = new | subscriber.orders, None
            self.listeners.add(subscriber, new)
            subscriber.hold(forget=False)
            there = False
            try:
                there = await self._snapshot(subscriber, wanted, ask_again=False, told=told)
            finally:
                if not there:
                    self.listeners.discard(subscriber, new)
                    subscriber.drop(new)
                    if not subscriber.starts_over and not subscriber.release({}):
                        self._join_again(subscriber)
            if there:
                subscriber.orders |= new
            return there

    def unsubscribe(self, subscriber: Subscriber, order_ids: Sequence[str]) -> None:
        """Do not listen to these orders any more."""
        assert subscriber.orders is not None, "it listens to all orders"
        gone = subscriber.orders.intersection(order_ids)
        self.listeners.discard(subscriber, gone)
        subscriber.drop(gone)
        subscriber.orders -= gone

    async def _resume(self, subscriber: Subscriber, cursor: str) -> bool:
        user, wanted = subscriber.user, subscriber.orders
        reached = position_of(cursor, self._log, user)
        async with self._telling.reading.of(user):
            if subscriber.closed:
                return True
            if wanted is not None and await self._telling.read(user, wanted) is None:
                return False
            await subscriber.begin()
            pages = pages_after(self._log, user, reached, self._limits.resume_entries_max)
            while not subscriber.closed and (page := await anext(pages, None)):
                entries, reached = page
                mine = [entry for entry in entries if wanted is None or entry.fields["subject"] in wanted]
                if await self._telling.learn(entry.fields for entry in mine):
                    raise NotResumable("What followed the cursor is gone: an order of it is not kept any more.")
                if subscriber.starts_over or self._reached.in_another_log:
                    break
                subscriber.send(*(told for told in map(self._telling.told, mine) if told))
        # The tail does not go on from where the history ends.
        if subscriber.starts_over or self._reached.in_another_log:
            raise NotResumable(_MISSING)
        subscriber.release_after(reached.position)
        self._reached.is_ahead(subscriber, reached)
        return True

    async def _snapshot(
        self,
        subscriber: Subscriber,
        wanted: set[str] | None,
        *before_it: Message,
        ask_again: bool = True,
        told: Position | None = None,
    ) -> bool:
        """`told`: how far it was told of orders that are not in this snapshot."""
        while True:
            partition, epoch = partition_of_user(subscriber.user, self._log.partitions), self._reached.epoch
            async with self._telling.reading.of(subscriber.user):
                if subscriber.closed:
                    return True
                # Before the orders are read: nothing up to here can be missing in them.
                before = await self._log.tip(partition)
                with crossing("snapshot.read"):
                    orders = await self._telling.read(subscriber.user, wanted)
            if orders is None:
                return False
            tip = await self._log.tip(partition)
            await subscriber.begin()
            if subscriber.starts_over and ask_again:
                subscriber.hold()  # the tail does not go on from where this was read
                continue
            # Some may have been let go of meanwhile.
            orders = [one for one in orders if wanted is None or one.id in wanted]
            self._telling.remember(orders)
            reached = min(before, told or before, key=lambda at: at.position)
            cursor = str(Cursor(epoch, partition, reached))
            body = {"type": "snapshot", "cursor": cursor, "orders": [one.body for one in orders]}
            subscriber.send(*before_it, Message(body, kind="snapshot", cursor=cursor))
            before_it = ()
            if subscriber.starts_over:
                return True  # what is held is behind the snapshot of all its orders, which is to come
            if subscriber.release({one.id: one.version for one in orders}):
                self._reached.is_ahead(subscriber, tip)
                return True
            if not ask_again:
                self._join_again(subscriber)
                return True
            subscriber.hold()

    def leave(self, subscriber: Subscriber) -> None:
        """Forget the socket."""
        subscriber.left = True
        self.listeners.remove(subscriber)
        self._reached.forget(subscriber)
        if not self.listeners:
            self._empty.set()

    @asynccontextmanager
    async def _joining(self, subscriber: Subscriber) -> AsyncIterator[None]:
        """One at a time; and who leaves while his orders are read is forgotten all the same."""
        async with subscriber.joining:
            try:
                yield
            finally:
                if subscriber.left:
                    self.leave(subscriber)

    async def drain(self) -> None:
        """Close every socket with a resumable code, and tell each another time to come back."""
        self.open = False
        everybody = list(self.listeners)
        observe.draining(len(everybody))
        for subscriber in everybody:
            wait_ms = random.randrange(self._limits.reconnect_spread_ms)  # noqa: S311 - spread, not secrecy
            subscriber.close(Close.RESTARTING, f"restarting, reconnect in {wait_ms} ms")
        self._empty.clear()
        if everybody:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.close_grace_s):
                    await self._empty.wait()

    async def beat(self) -> None:
        """Tell everybody who is up to date where that is: a place to come back to, and a sign of life."""
        await self._reached.beat()

    # What the tail does

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
                self._join_again(subscriber)
        self._unsent.add(receivers, entry.at.ms)
        return len(receivers)

    async def flush(self) -> None:
        """Write what was delivered."""
        await self._unsent.flush()

    def settle(self, at: Mapping[int, Position]) -> None:
        """The tail is here: sockets whose snapshot is older need not compare versions any more."""
        self._reached.settle(at)

    def pause(self) -> None:
        """Entries are missing: nobody may join before the log is read again."""
        self.open = False

    def start_over(self) -> None:
        """The tail begins (again) at the tips: whoever is here may have missed something."""
        self.open = True
        self._reached.start_over()
        for subscriber in list(self.listeners):
            self._join_again(subscriber)

    def _join_again(self, subscriber: Subscriber) -> None:
        subscriber.send(_RESET)
        subscriber.hold()
        subscriber.starts_over = True
        task = asyncio.create_task(self.join_or_close(subscriber))
        self._joining_again.add(task)
        task.add_done_callback(self._joining_again.discard)

    async def join_or_close(self, subscriber: Subscriber, cursor: str | None = None) -> None:
        """`join`; a socket that cannot is told why."""
        try:
            if not await self.join(subscriber, cursor):
                subscriber.close(Close.NOT_FOUND)
        except Exception as error:
            observe.snapshot_failed(subscriber.user, repr(error))
            subscriber.close(Close.TRY_LATER)
