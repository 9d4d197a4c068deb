"""Who listens to what."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from services.notifier.subscriber import Subscriber


class Listeners:
    """Subscribers by user, or by order if they chose some."""

    def __init__(self) -> None:
        self._everybody: set[Subscriber] = set()
        self._by_user: defaultdict[str, set[Subscriber]] = defaultdict(set)
        self._by_order: defaultdict[str, set[Subscriber]] = defaultdict(set)
        self.came = asyncio.Event()
        """Set when somebody is added."""
        self._emptied = asyncio.Event()

    def __bool__(self) -> bool:
        """Whether there is anybody."""
        return bool(self._everybody)

    def __iter__(self) -> Iterator[Subscriber]:
        """Everybody as of now, each once; also those who have unsubscribed from all orders."""
        return iter(list(self._everybody))

    def add(self, subscriber: Subscriber, orders: Iterable[str] | None) -> None:
        """It listens to these orders; None: to all of its user's."""
        index, keys = (self._by_user, (subscriber.user,)) if orders is None else (self._by_order, orders)
        self._everybody.add(subscriber)
        for key in keys:
            index[key].add(subscriber)
        self.came.set()

    def remove(self, subscriber: Subscriber) -> None:
        """It has gone."""
        self.discard(subscriber, subscriber.orders)
        self._everybody.discard(subscriber)
        if not self._everybody:
            self._emptied.set()

    async def until_empty(self) -> None:
        """Wait until nobody is left."""
        self._emptied.clear()
        if self._everybody:
            await self._emptied.wait()

    def discard(self, subscriber: Subscriber, orders: Iterable[str] | None) -> None:
        """They do not listen to these orders any more."""
        index, keys = (self._by_user, (subscriber.user,)) if orders is None else (self._by_order, orders)
        for key in keys:
            found = index.get(key, set())
            found.discard(subscriber)
            if not found:
                index.pop(key, None)

    def want(self, user: str, order_id: str) -> bool:
        """Whether anybody listens to this user or this order."""
        return user in self._by_user or order_id in self._by_order

    def of(self, fields: Mapping[str, str]) -> list[Subscriber]:
        """Who is told of an entry: its owner's listeners alone, even if others named the order before it was known."""
        user, chose = fields["user"], self._by_order.get(fields["subject"])
        everything = self._by_user.get(user, ())
        return [*everything, *[one for one in chose if one.user == user]] if chose else list(everything)
