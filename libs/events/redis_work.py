"""Work items over Redis Streams: one stream and one consumer group per service and partition."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from libs.events.errors import EventLogError
from libs.events.log import Item, Parked
from libs.events.model import AttemptFailed
from libs.events.reactions import NEXT_ACTOR
from libs.events.redis_client import Client, Pipe, reading, translate
from libs.events.redis_commit import Script
from libs.events.redis_keys import Keys

PAGE = 100
MOVE = Script("move.lua")


class RedisWork:
    """The `Work` role of `RedisLog`."""

    _reader: Client
    _pipe: Pipe
    _keys: list[Keys]

    def _claim_state(self) -> dict[tuple[str, str, int], str]:
        raise NotImplementedError

    async def take(self, service: str, consumer: str, count: int, block_ms: int) -> list[Item]:
        """See `Work.take`. Must not be cancelled: the items would be pending and unseen."""
        streams = {keys.work(service): ">" for keys in self._keys}
        with reading():
            reply = await self._reader.xreadgroup(
                service, consumer, streams, count=max(1, count // len(streams)), block=block_ms or None
            )
        return self._items(service, consumer, reply)

    async def take_pending(self, service: str, consumer: str) -> list[Item]:
        """See `Work.take_pending`. Reading one's own list counts as a delivery."""
        items: list[Item] = []
        after = {keys.work(service): "0" for keys in self._keys}
        while after:
            with reading():
                reply = await self._reader.xreadgroup(service, consumer, after, count=PAGE)
            page = self._items(service, consumer, reply)
            items += page
            ends = {stream: entries[-1][0] for stream, entries in reply if entries}
            after = {stream: end for stream, end in ends.items() if end != after[stream]}
        return await self._with_deliveries(items)

    async def claim(self, service: str, consumer: str, idle_ms: int) -> list[Item]:
        """See `Work.claim`. Looks at one page per partition and goes on from there next time."""
        items: list[Item] = []
        for partition, keys in enumerate(self._keys):
            where = (service, consumer, partition)
            cursor = self._claim_state().get(where, "0-0")
            with reading():
                cursor, entries, *_deleted = await self._reader.xautoclaim(
                    keys.work(service), service, consumer, idle_ms, start_id=cursor, count=PAGE
                )
            self._claim_state()[where] = cursor
            items += self._items(service, consumer, [[keys.work(service), entries]])
        return await self._with_deliveries(items)

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
                ["XCLAIM", work, item.service, item.consumer, 0, item.id],
                ["XPENDING", work, item.service, item.id, item.id, 1, item.consumer],
            ]
        )
        return int(pending[0][3]) if pending else item.deliveries + 1

    async def park(self, item: Item, reason: str, fingerprint: str) -> bool:
        """See `Work.park`."""
        keys = self._keys[item.partition]
        args = ["park", item.service, item.id, item.consumer, reason, item.deliveries, fingerprint]
        return await self._move([keys.work(item.service), keys.parked], args) == 1

    async def parked(self, count: int = PAGE) -> list[Parked]:
        """See `Work.parked`."""
        found: list[Parked] = []
        for partition, keys in enumerate(self._keys):
            with reading():
                entries = await self._reader.xrange(keys.parked, count=count)
            found += [
                Parked(
                    partition,
                    entry_id,
                    fields["service"],
                    fields.get("subject", ""),
                    fields["reason"],
                    int(fields["deliveries"]),
                    fields["fingerprint"],
                )
                for entry_id, fields in entries
            ]
        return sorted(found, key=lambda parked: parked.id)[:count]

    async def redrive(self, parked: Parked) -> bool:
        """See `Work.redrive`."""
        keys = self._keys[parked.partition]
        names = [keys.parked, keys.work(parked.service), keys.order(parked.order_id)]
        return await self._move(names, ["redrive", parked.id]) == 1

    async def move_due(self) -> int:
        """See `Work.move_due`. Redis' own clock decides what is due."""
        with reading():
            seconds, micros = await self._reader.time()
        now = seconds * 1000 + micros // 1000
        looks: list[list[Any]] = [["ZRANGEBYSCORE", keys.timers, "-inf", now, "LIMIT", 0, PAGE] for keys in self._keys]
        moved = 0
        for keys, due in zip(self._keys, await self._send(looks), strict=True):
            if due:
                actor = NEXT_ACTOR[AttemptFailed]
                assert actor is not None
                names = [keys.timers, keys.work(actor), *(keys.order(order_id) for order_id in due)]
                moved += await self._move(names, ["due", *due])
        return moved

    async def backlog(self, service: str) -> int:
        """See `Work.backlog`."""
        return sum(await self._send([["XLEN", keys.work(service)] for keys in self._keys]))

    async def _move(self, names: list[str], args: list[Any]) -> int:
        (reply,) = await MOVE.call(self._pipe, [(names, args)])
        if isinstance(reply, Exception):
            raise translate(reply)
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
        commands: list[list[Any]] = [
            ["XPENDING", self._keys[item.partition].work(item.service), item.service, item.id, item.id, 1]
            for item in items
        ]
        replies = await self._send(commands) if commands else []
        return [
            Item(
                item.service,
                item.consumer,
                item.partition,
                item.id,
                item.order_id,
                item.fields,
                # At least 2, whatever Redis counted: these were handed out before.
                max(2, int(pending[0][3])) if pending else 2,
            )
            for item, pending in zip(items, replies, strict=True)
        ]


def _owner(item: Item) -> tuple[int, str, str]:
    return item.partition, item.service, item.consumer
