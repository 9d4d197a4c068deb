"""Reading the log by position, and orders as the log holds them."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from libs.events.errors import LogMismatch, PositionGap
from libs.events.ids import Position, partition_of, partition_of_user
from libs.events.log import Entry, Snapshot
from libs.events.redis_client import Client, Pipe, reading, translate
from libs.events.redis_commit import snapshot
from libs.events.redis_keys import Keys


class RedisReads:
    """The `Reads` role of `RedisLog`."""

    _reader: Client
    _pipe: Pipe
    _keys: list[Keys]

    async def tip(self, partition: int) -> Position:
        """See `Reads.tip`."""
        with reading():
            position, ms = await self._reader.hmget(self._keys[partition].meta, ["position", "ms"])
        if position is None or ms is None:
            raise LogMismatch(f"partition {partition}: the log's meta data are gone")
        return Position(int(ms), int(position))

    async def read(self, after: Mapping[int, Position], count: int, block_ms: int) -> list[Entry]:
        """See `Reads.read`."""
        streams = {self._keys[partition].log: str(at) for partition, at in after.items()}
        with reading():
            reply = await self._reader.xread(streams, count=count, block=block_ms or None)
        partitions = {self._keys[partition].log: partition for partition in after}
        entries: list[Entry] = []
        for stream, rows in reply or ():
            partition = partitions[stream]
            last = after[partition].position
            for entry_id, fields in rows:
                at = Position.parse(entry_id)
                if at.position != last + 1:
                    raise PositionGap(partition, last + 1, at.position)
                last = at.position
                entries.append(Entry(partition, at, fields))
        return entries

    async def history(self, order_id: str) -> list[Entry]:
        """See `Reads.history`."""
        partition = partition_of(order_id)
        keys = self._keys[partition]
        with reading():
            trail = await self._reader.hget(keys.order(order_id), "trail")
        ids = trail.split() if trail else []
        commands: list[list[Any]] = [["XRANGE", keys.log, entry_id, entry_id] for entry_id in ids]
        entries: list[Entry] = []
        for entry_id, reply in zip(ids, await self._ask(commands), strict=True):
            for _, flat in reply:
                fields = dict(zip(flat[::2], flat[1::2], strict=True))
                entries.append(Entry(partition, Position.parse(entry_id), fields))
        return entries

    async def find(self, order_id: str) -> Snapshot | None:
        """See `Commits.find`."""
        return (await self.find_many([order_id])).get(order_id)

    async def find_many(self, order_ids: Sequence[str]) -> dict[str, Snapshot]:
        """See `Reads.find_many`."""
        commands: list[list[Any]] = [
            ["HGETALL", self._keys[partition_of(order_id)].order(order_id)] for order_id in order_ids
        ]
        found: dict[str, Snapshot] = {}
        for order_id, flat in zip(order_ids, await self._ask(commands), strict=True):
            held = snapshot(dict(zip(flat[::2], flat[1::2], strict=True)))
            if held:
                found[order_id] = held
        return found

    async def recent(self, user: str, before: str | None, limit: int) -> list[str]:
        """See `Reads.recent`. All members have score 0, so Redis keeps them in the order of their ids."""
        key = self._keys[partition_of_user(user, len(self._keys))].recent(user)
        top = f"({before}" if before else "+"
        (ids,) = await self._ask([["ZREVRANGEBYLEX", key, top, "-", "LIMIT", 0, limit]])
        return list(ids)

    async def register_reader(self, name: str, at: Mapping[int, Position]) -> None:
        """See `Reads.register_reader`."""
        with reading():
            seconds, _ = await self._reader.time()
        commands: list[list[Any]] = [
            ["HSET", self._keys[partition].readers, name, orjson.dumps({"at": str(position), "seen": seconds})]
            for partition, position in at.items()
        ]
        await self._ask(commands)

    async def _ask(self, commands: list[list[Any]]) -> list[Any]:
        replies = await self._pipe.send(commands) if commands else []
        for reply in replies:
            if isinstance(reply, Exception):
                raise translate(reply)
        return replies


async def settle_meta(pipe: Pipe, keys: list[Keys], epoch: str, layout: str) -> str:
    """Make the log's meta data where they are missing, and read them; gives the epoch.

    Raises:
        LogMismatch: the log in Redis was made with other partitions, or parts of it are missing.
    """
    first, *_ = await _create(pipe, keys[:1], epoch, layout)
    metas = [first, *await _create(pipe, keys[1:], first["epoch"], layout)]
    for partition, meta in enumerate(metas):
        if meta["layout"] != layout:
            raise LogMismatch(f"this log was made as '{meta['layout']}', not '{layout}': set PARTITIONS to match")
        if meta["epoch"] != first["epoch"]:
            raise LogMismatch(f"partition {partition} is of another log than partition 0")
    return first["epoch"]


async def _create(pipe: Pipe, keys: list[Keys], epoch: str, layout: str) -> list[dict[str, str]]:
    commands: list[list[Any]] = []
    for key in keys:
        for name, value in (("epoch", epoch), ("layout", layout), ("position", 0), ("ms", 0)):
            commands.append(["HSETNX", key.meta, name, value])
        commands.append(["HGETALL", key.meta])
    replies = await pipe.send(commands) if commands else []
    for reply in replies:
        if isinstance(reply, Exception):
            raise translate(reply)
    flats = replies[4::5]
    return [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in flats]
