"""How a listener comes to be up to date: a snapshot, or what it missed, is read for it, and then it hears everything.

Events that happen while that is read are held back (`Subscriber.hold`) and told afterwards, each once.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from libs.events.crash import crossing
from libs.events.ids import Cursor, Position, partition_of_user
from libs.orders.resume import Log, NotResumable, pages_after, position_of
from libs.orders.shown import ShownOrder
from services.notifier import observe
from services.notifier.limits import Close, Limits
from services.notifier.listeners import Listeners
from services.notifier.reached import Reached
from services.notifier.subscriber import Subscriber
from services.notifier.telling import Telling
from services.notifier.wire import Message

_MISSING = "Events are missing on our side."


class Joining:
    """Listeners come, choose orders, and leave."""

    def __init__(self, log: Log, listeners: Listeners, reached: Reached, telling: Telling, limits: Limits) -> None:
        """`log` goes back as far as cursors do."""
        self._log, self._listeners, self._reached = log, listeners, reached
        self._telling, self._limits = telling, limits
        self._again: set[asyncio.Task[None]] = set()

    async def join(self, subscriber: Subscriber, cursor: str | None = None) -> bool:
        """Send what happened since `cursor`, else a snapshot, and then everything that follows.

        False: no such order, or not this user's; then nothing was sent. For a listener that has left nothing is read.

        Raises:
            LogUnavailable: the orders cannot be read now.
        """
        async with self._joining(subscriber):
            # Registered first, read second: an event committed in between is in both, and dropped by its version or
            # position. The other way round it would be in neither.
            self._listeners.add(subscriber, subscriber.orders)
            subscriber.hold()
            if subscriber.orders is None:
                await subscriber.begin()
            if cursor is None:
                return await self._snapshot(subscriber, subscriber.orders)
            try:
                return await self._resume(subscriber, cursor)
            except NotResumable as why:
                observe.not_resumed(subscriber.user, str(why))
                subscriber.starts_over = False  # what is held now is behind the snapshot
                return await self._snapshot(subscriber, subscriber.orders, _reset(str(why)))

    async def subscribe(self, subscriber: Subscriber, order_ids: Sequence[str]) -> bool:
        """Listen to these orders too. False, and nothing changes: one of them is not there, or not this user's."""
        async with self._joining(subscriber):
            assert subscriber.orders is not None, "it listens to all orders already"
            new = {order_id for order_id in order_ids if order_id not in subscriber.orders}
            wanted, told = new, self._reached.of(subscriber.user)
            if subscriber.starts_over:  # what it missed of its others is before that place, too
                wanted, told = new | subscriber.orders, None
            self._listeners.add(subscriber, new)
            subscriber.hold(forget=False)
            there = False
            try:
                there = await self._snapshot(subscriber, wanted, ask_again=False, told=told)
            finally:
                if not there:
                    self._listeners.discard(subscriber, new)
                    subscriber.drop(new)
                    if not subscriber.starts_over and not subscriber.release({}):
                        self.again(subscriber)
            if there:
                subscriber.orders |= new
            return there

    def unsubscribe(self, subscriber: Subscriber, order_ids: Sequence[str]) -> None:
        """Do not listen to these orders any more."""
        assert subscriber.orders is not None, "it listens to all orders"
        gone = subscriber.orders.intersection(order_ids)
        self._listeners.discard(subscriber, gone)
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
            subscriber.send(*before_it, _snapshot_of(orders, Cursor(epoch, partition, reached)))
            before_it = ()
            if subscriber.starts_over:
                return True  # what is held is behind the snapshot of all its orders, which is to come
            if subscriber.release({one.id: one.version for one in orders}):
                self._reached.is_ahead(subscriber, tip)
                return True
            if not ask_again:
                self.again(subscriber)
                return True
            subscriber.hold()

    def again(self, subscriber: Subscriber) -> None:
        """It may have missed something: a reset, and a fresh snapshot, which is read meanwhile."""
        subscriber.send(_reset(_MISSING))
        subscriber.hold()
        subscriber.starts_over = True
        task = asyncio.create_task(self.join_or_close(subscriber))
        self._again.add(task)
        task.add_done_callback(self._again.discard)

    async def join_or_close(self, subscriber: Subscriber, cursor: str | None = None) -> None:
        """`join`; a socket that cannot is told why."""
        try:
            if not await self.join(subscriber, cursor):
                subscriber.close(Close.NOT_FOUND)
        except Exception as error:
            observe.snapshot_failed(subscriber.user, repr(error))
            subscriber.close(Close.TRY_LATER)

    def leave(self, subscriber: Subscriber) -> None:
        """Forget the socket."""
        subscriber.left = True
        self._listeners.remove(subscriber)
        self._reached.forget(subscriber)

    @asynccontextmanager
    async def _joining(self, subscriber: Subscriber) -> AsyncIterator[None]:
        """One at a time; a listener that leaves while its orders are read is forgotten afterwards."""
        async with subscriber.joining:
            try:
                yield
            finally:
                if subscriber.left:
                    self.leave(subscriber)


def _reset(reason: str) -> Message:
    return Message({"type": "reset", "reason": reason}, kind="reset")


def _snapshot_of(orders: Sequence[ShownOrder], at: Cursor) -> Message:
    cursor = str(at)
    body = {"type": "snapshot", "cursor": cursor, "orders": [one.body for one in orders]}
    return Message(body, kind="snapshot", cursor=cursor)
