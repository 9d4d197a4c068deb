"""Work items over Redis Streams: one stream and one consumer group per service and partition."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from libs.events.errors import LogNotOpen, LogUnavailable
from libs.events.ids import Position, partition_of
from libs.events.model import AttemptFailed
from libs.events.parked import DISCARDED_MAX, Discarded, Parked
from libs.events.reactions import NEXT_ACTOR
from libs.events.redis_client import FENCED, as_dict, translate
from libs.events.redis_commit import Script
from libs.events.redis_keys import Keys
from libs.events.redis_nodes import answered, ask
from libs.events.redis_parked import read_discarded, read_parked
from libs.events.redis_taking import PAGE, RedisTaking
from libs.events.work import Item, begin_of

MOVE = Script("move.lua")
MOVE_FENCED = -1


class RedisWork(RedisTaking):
    """The `Work` and `ParkedItems` roles of `RedisLog`."""

    async def renew(self, items: Sequence[Item]) -> None:
        """See `Work.renew`."""
        commands: list[list[Any]] = []
        for (partition, service, consumer), group in groupby(sorted(items, key=_owner), key=_owner):
            ids = [item.id for item in group]
            work = self._keys[partition].work(service)
            commands.append(["XCLAIM", work, service, consumer, 0, *ids, "IDLE", 0, "JUSTID"])
        await ask(self._redis, commands)

    async def count_delivery(self, item: Item) -> int:
        """See `Work.count_delivery`."""
        _, pending = await ask(self._redis, [self._claim_of(item), self._count_of(item)])
        return int(pending[0][3]) if pending else item.deliveries + 1

    async def uncount_delivery(self, items: Sequence[Item]) -> None:
        """See `Work.uncount_delivery`."""
        counts = await ask(self._redis, [self._count_of(item) for item in items])
        # Only of those that are still this consumer's.
        uncount: list[list[Any]] = [
            [*self._claim_of(item), "RETRYCOUNT", max(1, int(rows[0][3]) - 1), "JUSTID"]
            for item, rows in zip(items, counts, strict=True)
            if rows
        ]
        await ask(self._redis, uncount)

    async def park(self, item: Item, reason: str, fingerprint: str) -> bool:
        """See `Work.park`."""
        keys = self._keys[item.partition]
        args = ["park", item.service, item.id, item.consumer, reason, item.deliveries, fingerprint]
        return await self._move(keys, [keys.work(item.service), keys.parked], args) == 1

    async def parked(self, count: int = PAGE) -> list[Parked]:
        """See `ParkedItems.parked`."""
        found: list[Parked] = []
        for partition, keys in enumerate(self._keys):
            entries = await self._redis.ask("XRANGE", keys.parked, "-", "+", "COUNT", count)
            found += [read_parked(partition, entry_id, as_dict(flat)) for entry_id, flat in entries]
        return sorted(found, key=lambda parked: Position.parse(parked.id))[:count]

    async def redrive(self, parked: Parked) -> bool:
        """See `ParkedItems.redrive`."""
        keys = self._keys[parked.partition]
        names = [keys.parked, keys.work(parked.service), keys.order(parked.order_id)]
        return await self._move(keys, names, ["redrive", parked.id, parked.order_id]) == 1

    async def discard(self, parked: Parked, by: str, reason: str) -> bool:
        """See `ParkedItems.discard`."""
        keys = self._keys[parked.partition]
        args = ["discard", parked.id, by, reason, DISCARDED_MAX]
        return await self._move(keys, [keys.parked, keys.discarded], args) == 1

    async def discarded(self, count: int = PAGE) -> list[Discarded]:
        """See `ParkedItems.discarded`."""
        found: list[Discarded] = []
        for partition, keys in enumerate(self._keys):
            entries = await self._redis.ask("XREVRANGE", keys.discarded, "+", "-", "COUNT", count)
            found += [read_discarded(partition, entry_id, as_dict(flat)) for entry_id, flat in entries]
        return sorted(found, key=lambda item: item.at_ms)[-count:]

    async def move_due(self) -> int:
        """See `Work.move_due`. Redis' own clock decides what is due."""
        seconds, micros = await self._redis.ask("TIME")
        now = int(seconds) * 1000 + int(micros) // 1000
        looks: list[list[Any]] = [["ZRANGEBYSCORE", keys.timers, "-inf", now, "LIMIT", 0, PAGE] for keys in self._keys]
        actor = NEXT_ACTOR[AttemptFailed]
        assert actor is not None
        moved = 0
        closed: list[LogUnavailable] = []
        for keys, due in zip(self._keys, answered(await self._redis.send(looks)), strict=True):
            if due:
                names = [keys.timers, keys.work(actor), *(keys.order(order_id) for order_id in due)]
                try:
                    moved += await self._move(keys, names, ["due", *due])
                except LogUnavailable as error:
                    closed.append(error)
        if closed and not moved:
            raise closed[0]
        return moved

    async def timers(self, count: int, turn: int = 0) -> list[str]:
        """See `Work.timers`."""
        totals = answered(await self._redis.send([["ZCARD", keys.timers] for keys in self._keys]))
        begins = [begin_of(turn, count, total or 0) for total in totals]
        pages = [
            ["ZRANGE", keys.timers, begin, begin + count - 1] for keys, begin in zip(self._keys, begins, strict=True)
        ]
        found = answered(await self._redis.send(pages))
        return [order_id for partition in found for order_id in partition or ()]

    async def hasten(self, order_ids: Sequence[str]) -> None:
        """See `Work.hasten`."""
        timers = [(self._keys[partition_of(order_id)].timers, order_id) for order_id in order_ids]
        await ask(self._redis, [["ZADD", key, "XX", 0, order_id] for key, order_id in timers])

    async def backlog(self, service: str) -> int:
        """See `Work.backlog`."""
        return sum(await ask(self._redis, [["XLEN", keys.work(service)] for keys in self._keys]))

    def _count_of(self, item: Item) -> list[Any]:
        work = self._keys[item.partition].work(item.service)
        return ["XPENDING", work, item.service, item.id, item.id, 1, item.consumer]

    async def _move(self, keys: Keys, names: list[str], args: list[Any]) -> int:
        (reply,) = await MOVE.call(self._redis, [([keys.meta, *names], args)])
        if isinstance(reply, Exception):
            raise translate(reply)
        if reply == MOVE_FENCED:
            raise LogNotOpen(FENCED)
        return int(reply)


def _owner(item: Item) -> tuple[int, str, str]:
    return item.partition, item.service, item.consumer
