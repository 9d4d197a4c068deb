"""Work items over Redis Streams: one stream and one consumer group per service and partition."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any

import structlog

from libs.events.errors import EventLogError, LogNotOpen, LogUnavailable
from libs.events.ids import Position, partition_of
from libs.events.log import DISCARDED_MAX, Discarded, Item, Parked
from libs.events.model import AttemptFailed
from libs.events.reactions import NEXT_ACTOR
from libs.events.redis_client import FENCED, Client, Pipe, Readers, as_dict, reading, translate
from libs.events.redis_commit import Script
from libs.events.redis_keys import Keys
from libs.events.redis_meta import ask
from libs.events.redis_parked import read_discarded, read_parked

PAGE = 100
MOVE = Script("move.lua")
MOVE_FENCED = -1
# A group that is missing was there before: entries went with it, so the fence comes down with the same stroke.
REGROUP = """
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if made.err then
  return 0
end
redis.call('HDEL', KEYS[2], 'run')
return 1"""
_say = structlog.get_logger()


class RedisWork:
    """The `Work` role of `RedisLog`."""

    _reader: Client
    _readers: Readers
    _pipe: Pipe
    _keys: list[Keys]

    def _claim_state(self) -> dict[tuple[str, str, int], str]:
        raise NotImplementedError

    async def take(self, service: str, consumer: str, count: int, block_ms: int) -> list[Item]:
        """See `Work.take`. Must not be cancelled: the items would be pending and unseen."""
        works = [keys.work(service) for keys in self._keys]
        command: list[Any] = ["XREADGROUP", "GROUP", service, consumer, "COUNT", max(1, count // len(works))]
        command += ["BLOCK", block_ms] if block_ms else []
        async with self._grouped(service):
            reply = await self._readers.ask(*command, "STREAMS", *works, *[">"] * len(works))
        reply = [(stream, [(item_id, as_dict(flat)) for item_id, flat in rows]) for stream, rows in reply or ()]
        return await self._with_orders(self._items(service, consumer, reply))

    async def _with_orders(self, items: list[Item]) -> list[Item]:
        """Fresh items with their orders: of those that did not bring it along, with one more question."""
        bare = [item for item in items if "last" not in item.fields]
        looks: list[list[Any]] = [["HGETALL", self._keys[item.partition].order(item.order_id)] for item in bare]
        held = iter(await self._send(looks) if looks else ())
        return [item if "last" in item.fields else replace(item, fields=as_dict(next(held))) for item in items]

    async def take_pending(self, service: str, consumer: str) -> list[Item]:
        """See `Work.take_pending`."""
        items: list[Item] = []
        after = {keys.work(service): "0" for keys in self._keys}
        while after:
            async with self._grouped(service):
                reply = await self._reader.xreadgroup(service, consumer, after, count=PAGE)
            items += await self._without_deleted(service, self._items(service, consumer, reply))
            ends = {stream: entries[-1][0] for stream, entries in reply if entries}
            after = {stream: end for stream, end in ends.items() if end != after[stream]}
        return await self._with_deliveries(items)

    async def claim(self, service: str, consumer: str, idle_ms: int) -> list[Item]:
        """See `Work.claim`. Looks at one page per partition and goes on from there next time."""
        items: list[Item] = []
        for partition, keys in enumerate(self._keys):
            where = (service, consumer, partition)
            cursor = self._claim_state().get(where, "0-0")
            async with self._grouped(service):
                cursor, entries, *deleted = await self._reader.xautoclaim(
                    keys.work(service), service, consumer, idle_ms, start_id=cursor, count=PAGE
                )
            self._claim_state()[where] = cursor
            if deleted and deleted[0]:
                # Redis has taken them off the list; what was in them only the archive can tell.
                await self._missed(partition, service, deleted[0])
            items += self._items(service, consumer, [[keys.work(service), entries]])
        return await self._with_deliveries(items)

    @asynccontextmanager
    async def _grouped(self, service: str) -> AsyncIterator[None]:
        """Reading through the groups. One that is gone is made again, and the log no longer trusted."""
        try:
            async with reading():
                yield
        except LogUnavailable as error:
            if "NOGROUP" not in str(error):
                raise
            for partition, keys in enumerate(self._keys):
                names = [keys.work(service), keys.meta]
                (made,) = await ask(self._pipe, [["EVAL", REGROUP, len(names), *names, service]])
                if made:
                    _say.error("alarm_group_gone", service=service, partition=partition)
            raise LogUnavailable(f"the group of {service} was gone; the log is being checked") from error

    async def _without_deleted(self, service: str, items: list[Item]) -> list[Item]:
        """Pending items whose entry is gone hold nothing to act on and would come back for ever."""
        for partition, keys in enumerate(self._keys):
            gone = [item.id for item in items if item.partition == partition and not item.fields]
            if gone:
                await ask(self._pipe, [["XACK", keys.work(service), service, *gone]])
                await self._missed(partition, service, gone)
        return [item for item in items if item.fields]

    async def _missed(self, partition: int, service: str, item_ids: Sequence[str]) -> None:
        _say.error("alarm_items_deleted", service=service, partition=partition, items=list(item_ids))
        # Their orders would wait for ever: the projector makes all work of the partition again.
        await ask(self._pipe, [["HDEL", self._keys[partition].meta, "run"]])

    async def renew(self, items: Sequence[Item]) -> None:
        """See `Work.renew`."""
        commands: list[list[Any]] = []
        for (partition, service, consumer), group in groupby(sorted(items, key=_owner), key=_owner):
            ids = [item.id for item in group]
            work = self._keys[partition].work(service)
            commands.append(["XCLAIM", work, service, consumer, 0, *ids, "IDLE", 0, "JUSTID"])
        if commands:
            await self._send(commands)

    async def count_delivery(self, item: Item) -> int:
        """See `Work.count_delivery`."""
        work = self._keys[item.partition].work(item.service)
        _, pending = await self._send(
            [
                self._claim_of(item),
                ["XPENDING", work, item.service, item.id, item.id, 1, item.consumer],
            ]
        )
        return int(pending[0][3]) if pending else item.deliveries + 1

    async def park(self, item: Item, reason: str, fingerprint: str) -> bool:
        """See `Work.park`."""
        keys = self._keys[item.partition]
        args = ["park", item.service, item.id, item.consumer, reason, item.deliveries, fingerprint]
        return await self._move(keys, [keys.work(item.service), keys.parked], args) == 1

    async def parked(self, count: int = PAGE) -> list[Parked]:
        """See `Work.parked`."""
        found: list[Parked] = []
        for partition, keys in enumerate(self._keys):
            async with reading():
                entries = await self._reader.xrange(keys.parked, count=count)
            found += [read_parked(partition, entry_id, fields) for entry_id, fields in entries]
        return sorted(found, key=lambda parked: Position.parse(parked.id))[:count]

    async def redrive(self, parked: Parked) -> bool:
        """See `Work.redrive`."""
        keys = self._keys[parked.partition]
        names = [keys.parked, keys.work(parked.service), keys.order(parked.order_id)]
        return await self._move(keys, names, ["redrive", parked.id, parked.order_id]) == 1

    async def discard(self, parked: Parked, by: str, reason: str) -> bool:
        """See `Work.discard`."""
        keys = self._keys[parked.partition]
        args = ["discard", parked.id, by, reason, DISCARDED_MAX]
        return await self._move(keys, [keys.parked, keys.discarded], args) == 1

    async def discarded(self, count: int = PAGE) -> list[Discarded]:
        """See `Work.discarded`."""
        found: list[Discarded] = []
        for partition, keys in enumerate(self._keys):
            async with reading():
                entries = await self._reader.xrevrange(keys.discarded, count=count)
            found += [read_discarded(partition, entry_id, fields) for entry_id, fields in entries]
        return sorted(found, key=lambda item: item.at_ms)[-count:]

    async def move_due(self) -> int:
        """See `Work.move_due`. Redis' own clock decides what is due."""
        async with reading():
            seconds, micros = await self._reader.time()
        now = seconds * 1000 + micros // 1000
        looks: list[list[Any]] = [["ZRANGEBYSCORE", keys.timers, "-inf", now, "LIMIT", 0, PAGE] for keys in self._keys]
        moved = 0
        for keys, due in zip(self._keys, await self._send(looks), strict=True):
            if due:
                actor = NEXT_ACTOR[AttemptFailed]
                assert actor is not None
                names = [keys.timers, keys.work(actor), *(keys.order(order_id) for order_id in due)]
                moved += await self._move(keys, names, ["due", *due])
        return moved

    async def timers(self, count: int) -> list[str]:
        """See `Work.timers`."""
        found = await self._send([["ZRANGE", keys.timers, 0, count - 1] for keys in self._keys])
        return [order_id for partition in found for order_id in partition]

    async def hasten(self, order_ids: Sequence[str]) -> None:
        """See `Work.hasten`."""
        if order_ids:
            await self._send([["ZADD", self._keys[partition_of(each)].timers, "XX", 0, each] for each in order_ids])

    async def backlog(self, service: str) -> int:
        """See `Work.backlog`."""
        return sum(await self._send([["XLEN", keys.work(service)] for keys in self._keys]))

    def _claim_of(self, item: Item) -> list[Any]:
        return ["XCLAIM", self._keys[item.partition].work(item.service), item.service, item.consumer, 0, item.id]

    async def _move(self, keys: Keys, names: list[str], args: list[Any]) -> int:
        (reply,) = await MOVE.call(self._pipe, [([keys.meta, *names], args)])
        if isinstance(reply, Exception):
            raise translate(reply)
        if reply == MOVE_FENCED:
            raise LogNotOpen(FENCED)
        return int(reply)

    async def _send(self, commands: list[list[Any]]) -> list[Any]:
        replies = await self._pipe.send(commands)
        for reply in replies:
            if isinstance(reply, EventLogError):
                raise reply
            if isinstance(reply, Exception):
                raise translate(reply)
        return replies

    def _items(self, service: str, consumer: str, reply: Any) -> list[Item]:
        partitions = {keys.work(service): partition for partition, keys in enumerate(self._keys)}
        return [
            Item(service, consumer, partitions[stream], item_id, (fields or {}).get("subject", ""), fields or {})
            for stream, entries in reply or ()
            for item_id, fields in entries
        ]

    async def _with_deliveries(self, items: list[Item]) -> list[Item]:
        """Items handed out before, told how often with this time; it is counted when somebody begins with them.

        Reading counted it already, for every item of a process that died. That is taken back: were all of them counted
        because one of them kills the process, all of them would be parked with it.
        """
        commands: list[list[Any]] = [
            ["XPENDING", self._keys[item.partition].work(item.service), item.service, item.id, item.id, 1]
            for item in items
        ]
        pending = await self._send(commands) if commands else []
        # At least 2, whatever Redis counted: these were handed out before.
        counts = [max(2, int(rows[0][3])) if rows else 2 for rows in pending]
        again = [replace(item, deliveries=count) for item, count in zip(items, counts, strict=True)]
        uncount: list[list[Any]] = [
            [*self._claim_of(item), "RETRYCOUNT", item.deliveries - 1, "JUSTID"] for item in again
        ]
        if uncount:
            await self._send(uncount)
        return again


def _owner(item: Item) -> tuple[int, str, str]:
    return item.partition, item.service, item.consumer
