"""Who listens to what. Each event is decoded and serialised once, and only if somebody does."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import orjson

from libs.events.crash import crossing
from libs.events.ids import Cursor, Position, partition_of_user
from libs.events.log import Entry, Reads
from libs.events.order import Order
from libs.orders.presentation import event_body, order_body
from services.notifier import observe
from services.notifier.known import KnownOrders, Views
from services.notifier.limits import Close, Limits
from services.notifier.subscriber import Message, Subscriber, text_frame

_RESET = text_frame(orjson.dumps({"type": "reset"}))
_Index = defaultdict[str, set[Subscriber]]


class Hub:
    """Sockets by user and by order, fed by one tail of the log."""

    def __init__(self, log: Reads, views: Views, limits: Limits) -> None:
        self._log, self._views, self._limits = log, views, limits
        self._by_user: _Index = defaultdict(set)
        self._by_order: _Index = defaultdict(set)
        self._known = KnownOrders(views, limits.orders_kept)
        self._settling: dict[Subscriber, Position] = {}
        self._reading = asyncio.Semaphore(limits.snapshots_at_once)
        self._joining_again: set[asyncio.Task[None]] = set()
        self.open = False
        """Whether the log is being read, so that a socket may join."""

    # What sockets do

    async def join(self, subscriber: Subscriber) -> bool:
        """Send a snapshot, then everything that is not in it. False: no such order, or not this user's.

        Raises:
            LogUnavailable: the orders cannot be read now.
        """
        # Registered first, read second: what is committed in between is in both, and dropped by its version. The other
        # way round it would be in neither.
        index, key = self._place(subscriber)
        index[key].add(subscriber)
        subscriber.hold()
        with crossing("snapshot.read"):
            orders = await self._read(subscriber)
        if orders is None:
            return False
        tip = await self._log.tip(partition_of_user(subscriber.user, self._log.partitions))
        for order in orders:
            self._known.remember(order)
        subscriber.send(text_frame(orjson.dumps({"type": "snapshot", "orders": [order_body(o) for o in orders]})))
        if not subscriber.release({order.id: order.version for order in orders}):
            return await self.join(subscriber)
        self._settling[subscriber] = tip
        return True

    def leave(self, subscriber: Subscriber) -> None:
        """Forget the socket."""
        index, key = self._place(subscriber)
        index[key].discard(subscriber)
        if not index[key]:
            del index[key]
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
        for index in (self._by_user, self._by_order):
            for subscribers in index.values():
                yield from subscribers

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
        message = self._message(entry) if receivers else None
        if message is None:
            return 0
        for subscriber in receivers:
            if not subscriber.deliver(message):
                self._join_again(subscriber)
        observe.delivered(len(receivers), entry.at.ms)
        return len(receivers)

    def settle(self, at: Mapping[int, Position]) -> None:
        """The tail is here: sockets whose snapshot is older need not compare versions any more."""
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

    async def join_or_close(self, subscriber: Subscriber) -> None:
        """`join`; a socket that cannot is told why."""
        try:
            if not await self.join(subscriber):
                subscriber.close(Close.NOT_FOUND)
        except Exception as error:
            observe.snapshot_failed(subscriber.user, repr(error))
            subscriber.close(Close.TRY_LATER)

    # Details

    async def _read(self, subscriber: Subscriber) -> list[Order] | None:
        async with self._reading:
            if subscriber.order_id is None:
                orders, _ = await self._views.newest(subscriber.user, None, self._limits.snapshot_orders)
                return orders
            order = await self._views.get(subscriber.order_id)
            # Somebody else's order and no order are one answer: ids must not be probed.
            return [order] if order and order.user == subscriber.user else None

    def _place(self, subscriber: Subscriber) -> tuple[_Index, str]:
        if subscriber.order_id is None:
            return self._by_user, subscriber.user
        return self._by_order, subscriber.order_id

    def _receivers(self, fields: Mapping[str, str]) -> list[Subscriber]:
        return [*self._by_user.get(fields["user"], ()), *self._by_order.get(fields["subject"], ())]

    def _message(self, entry: Entry) -> Message | None:
        cursor = str(Cursor(self._log.epoch, entry.partition, entry.at))
        try:
            event = entry.decode()
            body = event_body(event, cursor, self._known.order_of(event))
        except (ValueError, KeyError) as error:
            observe.entry_unreadable(entry.fields.get("id", cursor), str(error))
            return None
        return Message(event.subject, event.version, text_frame(orjson.dumps(body)))
