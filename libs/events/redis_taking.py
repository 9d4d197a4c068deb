"""Getting work items: fresh ones, those handed out before, those of consumers that fell silent.

One stream and one consumer group per service and partition. On a cluster each partition is asked by itself, and one
whose node is away holds up no other.
"""

import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from libs.events.errors import LogUnavailable
from libs.events.redis_client import as_dict
from libs.events.redis_keys import Keys
from libs.events.redis_nodes import Nodes, ask
from libs.events.redis_underway import Underway
from libs.events.work import Item

PAGE = 100
# A group that is missing was there before: entries went with it, so the fence comes down with the same stroke.
REGROUP = """
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if made.err then
  return 0
end
redis.call('HDEL', KEYS[2], 'run')
return 1"""
# Reading creates a consumer, and nothing removes it: with every container comes a new name. One that still has items is
# left until they are claimed; one that comes back is created again by its next read.
FORGET_GONE = """
local gone = 0
for _, told in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local one = {}
  for at = 1, #told, 2 do
    one[told[at]] = told[at + 1]
  end
  if one.pending == 0 and one.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], one.name)
    gone = gone + 1
  end
end
return gone"""
GONE_AFTER_MS = 86_400_000
LOOK_FOR_GONE_EVERY_S = 3_600
_say = structlog.get_logger()


class RedisTaking:
    """A part of the `Work` role of `RedisLog`."""

    _redis: Nodes
    _taking: Underway
    _keys: list[Keys]
    # Streams whose node was away: what it handed out without our seeing it is looked for first.
    _torn: set[tuple[str, ...]]
    # Where XAUTOCLAIM goes on, by service, consumer and partition.
    _claim_cursors: dict[tuple[str, str, int], str]
    _looked_for_gone_at: float = -math.inf

    async def take(self, service: str, consumer: str, count: int, block_ms: int) -> list[Item]:
        """See `Work.take`. Must not be cancelled: the items would be pending and unseen."""
        lots = await self._redis.lots([keys.work(service) for keys in self._keys])
        each = max(1, count // len(self._keys))
        if len(lots) == 1:
            return await self._take(lots[0], service, consumer, each, block_ms)
        reads = {
            (service, consumer, *lot): partial(self._take_again, lot, service, consumer, each, block_ms) for lot in lots
        }
        items, _ = await self._taking.some(reads, every=not block_ms)
        return items

    async def take_rest(self, service: str, consumer: str) -> list[Item]:
        """See `Work.take_rest`."""
        return await self._taking.rest(lambda place: place[:2] == (service, consumer))

    async def _take_again(
        self, works: Sequence[str], service: str, consumer: str, count: int, block_ms: int
    ) -> list[Item]:
        where = (service, consumer, *works)
        try:
            missed = await self._pending(works, service, consumer) if where in self._torn else []
            self._torn.discard(where)
            return missed or await self._take(works, service, consumer, count, block_ms)
        except LogUnavailable:
            self._torn.add(where)
            raise

    async def _take(self, works: Sequence[str], service: str, consumer: str, count: int, block_ms: int) -> list[Item]:
        command: list[Any] = ["XREADGROUP", "GROUP", service, consumer, "COUNT", count]
        command += ["BLOCK", block_ms] if block_ms else []
        async with self._grouped(service, works):
            reply = await self._redis.ask(*command, "STREAMS", *works, *[">"] * len(works))
        return await self._with_orders(self._items(service, consumer, reply))

    async def _with_orders(self, items: list[Item]) -> list[Item]:
        """Fresh items with their orders: of those that did not bring it along, with one more question."""
        bare = [item for item in items if "last" not in item.fields]
        looks: list[list[Any]] = [["HGETALL", self._keys[item.partition].order(item.order_id)] for item in bare]
        held = iter(await ask(self._redis, looks))
        return [item if "last" in item.fields else replace(item, fields=as_dict(next(held))) for item in items]

    async def take_pending(self, service: str, consumer: str) -> list[Item]:
        """See `Work.take_pending`."""
        # What they bring is pending, too.
        await self.take_rest(service, consumer)
        items: list[Item] = []
        away: list[LogUnavailable] = []
        lots = await self._redis.lots([keys.work(service) for keys in self._keys])
        for lot in lots:
            try:
                items += await self._pending(lot, service, consumer)
            except LogUnavailable as error:
                self._torn.add((service, consumer, *lot))
                away.append(error)
        if len(away) == len(lots):
            raise away[0]
        return items

    async def _pending(self, works: Sequence[str], service: str, consumer: str) -> list[Item]:
        items: list[Item] = []
        after = dict.fromkeys(works, "0")
        command = ("XREADGROUP", "GROUP", service, consumer, "COUNT", PAGE, "STREAMS")
        while after:
            async with self._grouped(service, works):
                reply = await self._redis.ask(*command, *after, *after.values()) or ()
            items += await self._without_deleted(service, self._items(service, consumer, reply))
            ends = {stream: entries[-1][0] for stream, entries in reply if entries}
            after = {stream: end for stream, end in ends.items() if end != after[stream]}
        return await self._with_deliveries(items)

    async def claim(self, service: str, consumer: str, idle_ms: int) -> list[Item]:
        """See `Work.claim`. Looks at one page per partition and goes on from there next time."""
        await self._forget_gone(service)
        items: list[Item] = []
        away: list[LogUnavailable] = []
        for partition in range(len(self._keys)):
            try:
                items += await self._claim_in(partition, service, consumer, idle_ms)
            except LogUnavailable as error:
                # They are ours now: those of the other partitions must not be forgotten for it.
                away.append(error)
        if len(away) == len(self._keys):
            raise away[0]
        return items

    async def _forget_gone(self, service: str) -> None:
        """Consumers that have not been seen for a day."""
        if time.monotonic() - self._looked_for_gone_at < LOOK_FOR_GONE_EVERY_S:
            return
        self._looked_for_gone_at = time.monotonic()
        with suppress(LogUnavailable):  # if a group is gone, the next read says so
            works = [keys.work(service) for keys in self._keys]
            await self._redis.send([["EVAL", FORGET_GONE, 1, work, service, GONE_AFTER_MS] for work in works])

    async def _claim_in(self, partition: int, service: str, consumer: str, idle_ms: int) -> list[Item]:
        work, where = self._keys[partition].work(service), (service, consumer, partition)
        cursor = self._claim_cursors.get(where, "0-0")
        async with self._grouped(service, [work]):
            cursor, entries, *deleted = await self._redis.ask(
                "XAUTOCLAIM", work, service, consumer, idle_ms, cursor, "COUNT", PAGE
            )
        self._claim_cursors[where] = cursor
        if deleted and deleted[0]:
            # Redis has taken them off the list; what was in them only the archive can tell.
            await self._missed(partition, service, deleted[0])
        return await self._with_deliveries(self._items(service, consumer, [[work, entries]]))

    @asynccontextmanager
    async def _grouped(self, service: str, works: Sequence[str]) -> AsyncIterator[None]:
        """Reading through the groups. One that is gone is made again, and the log no longer trusted."""
        try:
            yield
        except LogUnavailable as error:
            if "NOGROUP" not in str(error):
                raise
            for partition, keys in enumerate(self._keys):
                names = [keys.work(service), keys.meta]
                if names[0] not in works:
                    continue
                (made,) = await ask(self._redis, [["EVAL", REGROUP, len(names), *names, service]])
                if made:
                    _say.error("alarm_group_gone", service=service, partition=partition)
            raise LogUnavailable(f"the group of {service} was gone; the log is being checked") from error

    async def _without_deleted(self, service: str, items: list[Item]) -> list[Item]:
        """Pending items whose entry is gone hold nothing to act on and would come back for ever."""
        for partition, keys in enumerate(self._keys):
            gone = [item.id for item in items if item.partition == partition and not item.fields]
            if gone:
                await ask(self._redis, [["XACK", keys.work(service), service, *gone]])
                await self._missed(partition, service, gone)
        return [item for item in items if item.fields]

    async def _missed(self, partition: int, service: str, item_ids: Sequence[str]) -> None:
        _say.error("alarm_items_deleted", service=service, partition=partition, items=list(item_ids))
        # Their orders would wait for ever: the projector makes all work of the partition again.
        await ask(self._redis, [["HDEL", self._keys[partition].meta, "run"]])

    def _claim_of(self, item: Item) -> list[Any]:
        return ["XCLAIM", self._keys[item.partition].work(item.service), item.service, item.consumer, 0, item.id]

    def _items(self, service: str, consumer: str, reply: Any) -> list[Item]:
        partitions = {keys.work(service): partition for partition, keys in enumerate(self._keys)}
        return [
            Item(service, consumer, partitions[stream], item_id, fields.get("subject", ""), fields)
            for stream, entries in reply or ()
            for item_id, flat in entries
            for fields in [as_dict(flat or ())]
        ]

    async def _with_deliveries(self, items: list[Item]) -> list[Item]:
        """Items handed out before, with their number of deliveries, this one included.

        Redis counts a delivery when it is read; here it counts when the item is begun (`count_delivery`), so that count
        is taken back. Otherwise an item that kills its process would get all others in hand parked with it.
        """
        commands: list[list[Any]] = [
            ["XPENDING", self._keys[item.partition].work(item.service), item.service, item.id, item.id, 1]
            for item in items
        ]
        pending = await ask(self._redis, commands)
        # At least 2, whatever Redis counted: these were handed out before.
        counts = [max(2, int(rows[0][3])) if rows else 2 for rows in pending]
        again = [replace(item, deliveries=count) for item, count in zip(items, counts, strict=True)]
        uncount: list[list[Any]] = [
            [*self._claim_of(item), "RETRYCOUNT", item.deliveries - 1, "JUSTID"] for item in again
        ]
        await ask(self._redis, uncount)
        return again
