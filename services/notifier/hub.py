"""Who listens to what. Each event is decoded and serialised once, and only if somebody does."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from libs.events.crash import crossing
from libs.events.ids import Cursor, Position, partition_of_user
from libs.events.log import Entry
from libs.events.order import Order
from libs.orders.presentation import event_body, order_body
from libs.orders.resume import Log, NotResumable, pages_after, position_of
from services.notifier import observe
from services.notifier.known import KnownOrders, Views
from services.notifier.limits import Close, Limits
from services.notifier.subscriber import Subscriber, Told
from services.notifier.wire import Message

_RESET = Message({"type": "reset", "reason": "Events are missing on our side."}, kind="reset")
_Index = defaultdict[str, set[Subscriber]]


class Hub:
    """Listeners by user and by order, fed by one tail of the log."""

    def __init__(self, log: Log, views: Views, limits: Limits) -> None:
        """`log` goes back as far as cursors do."""
        self._log, self._views, self._limits = log, views, limits
        self._by_user: _Index = defaultdict(set)
        self._by_order: _Index = defaultdict(set)
        self._known = KnownOrders(views, limits.orders_kept)
        self._settling: dict[Subscriber, Position] = {}
        self._reading = asyncio.Semaphore(limits.snapshots_at_once)
        self._joining_again: set[asyncio.Task[None]] = set()
        self._at: Mapping[int, Position] = {}
        self.open = False
        """Whether the log is being read, so that a socket may join."""

    # What listeners do

    async def join(self, subscriber: Subscriber, cursor: str | None = None) -> bool:
        """Send what happened since `cursor`, else a snapshot, and then everything that follows.

        False: no such order, or not this user's.

        Raises:
            LogUnavailable: the orders cannot be read now.
        """
        async with subscriber.joining:
            # Registered first, read second: what is committed in between is in both, and dropped by its version or
            # position. The other way round it would be in neither.
            self._register(subscriber, subscriber.orders)
            subscriber.hold()
            if cursor is not None:
                try:
                    return await self._resume(subscriber, cursor)
                except NotResumable as why:
                    observe.not_resumed(subscriber.user, str(why))
                    subscriber.send(Message({"type": "reset", "reason": str(why)}, kind="reset"))
            return await self._snapshot(subscriber, subscriber.orders)

    async def subscribe(self, subscriber: Subscriber, order_ids: Sequence[str]) -> bool:
        """Listen to these orders too. False, and nothing changes: one of them is not there, or not this user's."""
        async with subscriber.joining:
            assert subscriber.orders is not None, "it listens to all orders already"
            new = {order_id for order_id in order_ids if order_id not in subscriber.orders}
            self._register(subscriber, new)
            subscriber.hold(forget=False)
            if await self._snapshot(subscriber, new, ask_again=False):
                subscriber.orders |= new
                return True
            self._unregister(subscriber, new)
            subscriber.release({})
            return False

    def unsubscribe(self, subscriber: Subscriber, order_ids: Sequence[str]) -> None:
        """Do not listen to these orders any more."""
        assert subscriber.orders is not None, "it listens to all orders"
        gone = subscriber.orders.intersection(order_ids)
        self._unregister(subscriber, gone)
        subscriber.orders -= gone

    async def _resume(self, subscriber: Subscriber, cursor: str) -> bool:
        user, wanted = subscriber.user, subscriber.orders
        reached = position_of(cursor, self._log, user)
        async with self._reading:
            # Somebody else's order and no order are one answer: ids must not be probed.
            if wanted is not None and await self._read(subscriber, wanted) is None:
                return False
            async for entries, at in pages_after(self._log, user, reached, self._limits.resume_entries_max):
                reached = at
                mine = [entry for entry in entries if wanted is None or entry.fields["subject"] in wanted]
                await self._known.learn(entry.fields for entry in mine)
                for entry in mine:
                    if told := self._told(entry):
                        subscriber.send(told)
        subscriber.release_after(reached.position)
        return True

    async def _snapshot(self, subscriber: Subscriber, wanted: set[str] | None, *, ask_again: bool = True) -> bool:
        while True:
            partition = partition_of_user(subscriber.user, self._log.partitions)
            # Before the orders are read: nothing up to here can be missing in them.
            before = await self._log.tip(partition)
            with crossing("snapshot.read"):
                async with self._reading:
                    orders = await self._read(subscriber, wanted)
            if orders is None:
                return False
            tip = await self._log.tip(partition)
            for order in orders:
                self._known.remember(order)
            cursor = str(Cursor(self._log.epoch, partition, before))
            body = {"type": "snapshot", "cursor": cursor, "orders": [order_body(order) for order in orders]}
            subscriber.send(Message(body, kind="snapshot", cursor=cursor))
            if subscriber.release({order.id: order.version for order in orders}):
                self._settling[subscriber] = tip
                return True
            if not ask_again:
                self._join_again(subscriber)
                return True
            subscriber.hold()

    def leave(self, subscriber: Subscriber) -> None:
        """Forget the socket."""
        self._unregister(subscriber, subscriber.orders)
        self._settling.pop(subscriber, None)

    async def drain(self) -> None:
        """Close every socket with a resumable code, and tell each another time to come back."""
        self.open = False
        everybody = list(self.everybody())
        observe.draining(len(everybody))
        for subscriber in everybody:
            wait_ms = random.randrange(self._limits.reconnect_spread_ms)  # noqa: S311 - spread, not secrecy
            subscriber.close(Close.RESTARTING, f"restarting, reconnect in {wait_ms} ms")
        closing = [subscriber.closing for subscriber in everybody if subscriber.closing]
        if closing:
            await asyncio.wait(closing, timeout=self._limits.close_grace_s)

    def everybody(self) -> Iterator[Subscriber]:
        """Every socket that joined and has not left."""
        everybody = {one for index in (self._by_user, self._by_order) for found in index.values() for one in found}
        yield from everybody

    def sweep(self) -> None:
        """See who has gone without a word."""
        for subscriber in self.everybody():
            subscriber.notice_loss()

    def beat(self) -> None:
        """Tell everybody who is up to date where that is: a place to come back to, and a sign of life."""
        beats = {
            partition: Message({"type": "heartbeat", "cursor": cursor}, kind="heartbeat", cursor=cursor)
            for partition, at in self._at.items()
            for cursor in [str(Cursor(self._log.epoch, partition, at))]
        }
        for subscriber in self.everybody():
            if subscriber.live and subscriber not in self._settling and beats:
                subscriber.send(beats[partition_of_user(subscriber.user, self._log.partitions)])

    # What the tail does

    async def prepare(self, entries: Sequence[Entry]) -> None:
        """Learn what `deliver` will need.

        Raises:
            LogUnavailable: the log cannot be asked now.
        """
        await self._known.learn(entry.fields for entry in entries if self._receivers(entry.fields))

    def deliver(self, entry: Entry) -> int:
        """Hand one entry to everybody who listens; gives how many."""
        receivers = self._receivers(entry.fields)
        told = self._told(entry) if receivers else None
        if told is None:
            return 0
        for subscriber in receivers:
            if not subscriber.deliver(told):
                self._join_again(subscriber)
        observe.delivered(len(receivers), entry.at.ms)
        return len(receivers)

    def settle(self, at: Mapping[int, Position]) -> None:
        """The tail is here: sockets whose snapshot is older need not compare versions any more."""
        self._at = at
        for subscriber, tip in list(self._settling.items()):
            partition = partition_of_user(subscriber.user, self._log.partitions)
            if at[partition].position >= tip.position:
                subscriber.settle()
                del self._settling[subscriber]

    def pause(self) -> None:
        """Entries are missing: nobody may join before the log is read again."""
        self.open = False

    def start_over(self) -> None:
        """The tail begins (again) at the tips: whoever is here may have missed something."""
        self.open = True
        self._settling.clear()
        for subscriber in list(self.everybody()):
            self._join_again(subscriber)

    def _join_again(self, subscriber: Subscriber) -> None:
        subscriber.send(_RESET)
        subscriber.hold()
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

    # Details

    async def _read(self, subscriber: Subscriber, wanted: set[str] | None) -> list[Order] | None:
        if wanted is None:
            orders, _ = await self._views.newest(subscriber.user, None, self._limits.snapshot_orders)
            return orders
        found = await asyncio.gather(*(self._views.get(order_id) for order_id in sorted(wanted)))
        # Somebody else's order and no order are one answer: ids must not be probed.
        mine = [order for order in found if order and order.user == subscriber.user]
        return mine if len(mine) == len(wanted) else None

    def _register(self, subscriber: Subscriber, orders: set[str] | None) -> None:
        if orders is None:
            self._by_user[subscriber.user].add(subscriber)
            return
        for order_id in orders:
            self._by_order[order_id].add(subscriber)

    def _unregister(self, subscriber: Subscriber, orders: set[str] | None) -> None:
        index, keys = (self._by_user, {subscriber.user}) if orders is None else (self._by_order, orders)
        for key in keys:
            index[key].discard(subscriber)
            if not index[key]:
                del index[key]

    def _receivers(self, fields: Mapping[str, str]) -> list[Subscriber]:
        return [*self._by_user.get(fields["user"], ()), *self._by_order.get(fields["subject"], ())]

    def _told(self, entry: Entry) -> Told | None:
        cursor = str(Cursor(self._log.epoch, entry.partition, entry.at))
        try:
            event = entry.decode()
            body = event_body(event, cursor, self._known.order_of(event))
        except (ValueError, KeyError) as error:
            observe.entry_unreadable(entry.fields.get("id", cursor), str(error))
            return None
        return Told(body, cursor, event.subject, event.version, entry.at.position)
