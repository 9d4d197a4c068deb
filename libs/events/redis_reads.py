"""Reading the log by position, and orders as the log holds them."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import orjson
import structlog

from libs.events.errors import EventLogError, LogNotOpen, LogReplaced, PositionGap, Trimmed
from libs.events.ids import Position, partition_of, partition_of_user
from libs.events.log import RECENT_MAX, Entry, Only, Snapshot
from libs.events.record import snapshot
from libs.events.redis_client import FENCED, as_dict
from libs.events.redis_entries import Row, entry_of, find_hole, is_wanted, text
from libs.events.redis_keys import Keys
from libs.events.redis_nodes import Nodes, answered, ask
from libs.events.redis_underway import Underway

CHECK_EVERY_S = 1.0  # how long a reader may not notice that the log was replaced
FORGET_AFTER_S = 5.0  # a read of a cluster whose reader does not come again

_say = structlog.get_logger()


class RedisReads:
    """The `Reads` role of `RedisLog`."""

    _redis: Nodes
    _reading: Underway
    _keys: list[Keys]

    _epoch: str
    _checked_at: float = 0.0

    async def tip(self, partition: int) -> Position:
        """See `Reads.tip`."""
        position, ms, epoch = await self._redis.ask("HMGET", self._keys[partition].meta, "position", "ms", "epoch")
        if position is None or ms is None or epoch is None:
            raise LogReplaced(f"partition {partition}: the log's meta data are gone")
        if self._epoch and epoch != self._epoch:
            raise LogReplaced(f"partition {partition}: the log has epoch {epoch} now, not {self._epoch}")
        return Position(int(ms), int(position))

    async def read(
        self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
    ) -> list[Entry]:
        """See `Reads.read`."""
        try:
            entries = await self.read_unchecked(after, count, block_ms, only)
            # After the read: what was read before a check that succeeds was read from the log that was checked.
            if self._epoch and time.monotonic() - self._checked_at > CHECK_EVERY_S:
                await self._check_log()
        except EventLogError:
            self._checked_at = 0
            raise
        return entries

    async def read_unchecked(
        self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
    ) -> list[Entry]:
        """`read`, even while the log is being checked: only for the one that checks it."""
        keys = {self._keys[partition].log: partition for partition in after}
        lots = await self._redis.lots(list(keys))
        wait = ("BLOCK", block_ms) if block_ms else ()
        commands = [
            ("XREAD", "COUNT", count, *wait, "STREAMS", *lot, *(str(after[keys[log]]) for log in lot)) for lot in lots
        ]
        raw = only is not None
        reply = await (self._rows(commands[0], raw) if len(commands) == 1 else self._first_rows(commands, raw))
        entries: list[Entry] = []
        for stream, rows in reply:
            partition = keys[text(stream)]
            last = after[partition].position
            if hole := find_hole(rows, last):
                raise await self._gap(partition, *hole)
            wanted = rows if only is None else [row for row in rows[:-1] if is_wanted(row, only)] + rows[-1:]
            entries += (entry_of(partition, row) for row in wanted)
        return entries

    async def _rows(self, command: tuple[Any, ...], raw: bool) -> list[tuple[bytes | str, list[Row]]]:
        return list(await self._redis.ask(*command, raw=raw) or ())

    async def _first_rows(self, commands: list[tuple[Any, ...]], raw: bool) -> list[tuple[bytes | str, list[Row]]]:
        """What the first of several blocking reads brings, or what all bring if they do not block.

        A blocking read goes on without the nodes that are away; one that does not block raises, because its caller
        wants all there is.
        """
        waits = "BLOCK" in commands[0]
        # What a read brought in another epoch, and nobody asked for until now, may have been lost since.
        reads = {(self._epoch, command, raw): partial(self._rows, command, raw) for command in commands}
        found, away = await self._reading.some(reads, every=not waits)
        if away:
            self._checked_at = 0
            if not waits:
                raise away[0]
        return found

    async def _gap(self, partition: int, expected: int, found: Position) -> PositionGap:
        first = await self._redis.ask("XRANGE", self._keys[partition].log, "-", "+", "COUNT", 1)
        trimmed = not first or Position.parse(first[0][0]) >= found
        return (Trimmed if trimmed else PositionGap)(partition, expected, found.position)

    async def _check_log(self) -> None:
        flats = answered(await self._redis.send([["HGETALL", keys.meta] for keys in self._keys]))
        for partition, flat in enumerate(flats):
            if flat is None:
                continue  # its node is away, and nothing was read from it
            meta = as_dict(flat)
            if meta.get("epoch") != self._epoch:
                found = meta.get("epoch", "none")
                raise LogReplaced(f"partition {partition}: the log's epoch was {self._epoch} and is {found} now")
            if meta.get("run") != self._redis.run_of(self._keys[partition].meta):
                await self._redis.check_primary()
                raise LogNotOpen(FENCED)
        self._checked_at = time.monotonic()

    async def history(self, order_id: str) -> list[Entry]:
        """See `Reads.history`."""
        partition = partition_of(order_id)
        # Not over a connection of its own: of these there are a hundred, and this may be asked for at once by more.
        (trail,) = await ask(self._redis, [["HGET", self._keys[partition].order(order_id), "trail"]])
        return await self.entries_at(partition, [Position.parse(entry_id) for entry_id in (trail or "").split()])

    async def entries_at(self, partition: int, positions: Sequence[Position]) -> list[Entry]:
        """See `Reads.entries_at`."""
        log = self._keys[partition].log
        commands: list[list[Any]] = [["XRANGE", log, str(at), str(at)] for at in positions]
        return [entry_of(partition, row) for reply in await ask(self._redis, commands) for row in reply]

    async def find(self, order_id: str) -> Snapshot | None:
        """See `Commits.find`."""
        (flat,) = await ask(self._redis, [["HGETALL", self._keys[partition_of(order_id)].order(order_id)]])
        return snapshot(order_id, as_dict(flat))

    async def version(self, order_id: str) -> int:
        """See `Commits.version`."""
        (version,) = await ask(self._redis, [["HGET", self._keys[partition_of(order_id)].order(order_id), "version"]])
        return int(version or 0)

    async def find_many(self, order_ids: Sequence[str]) -> dict[str, Snapshot]:
        """See `Reads.find_many`."""
        commands: list[list[Any]] = [
            ["HGETALL", self._keys[partition_of(order_id)].order(order_id)] for order_id in order_ids
        ]
        found: dict[str, Snapshot] = {}
        for order_id, flat in zip(order_ids, await ask(self._redis, commands), strict=True):
            try:
                held = snapshot(order_id, as_dict(flat))
            except ValueError as error:
                _say.warning("order_unreadable", order_id=order_id, reason=str(error))
                continue
            if held:
                found[order_id] = held
        return found

    async def recent(self, user: str, before: str | None, limit: int) -> list[str]:
        """See `Reads.recent`. All members have score 0, so Redis keeps them in the order of their ids."""
        key = self._keys[partition_of_user(user, len(self._keys))].recent(user)
        top = f"({before}" if before else "+"
        (ids,) = await ask(self._redis, [["ZREVRANGEBYLEX", key, top, "-", "LIMIT", 0, limit]])
        return list(ids)

    async def recent_since(self, user: str) -> str | None:
        """See `Reads.recent_since`."""
        key = self._keys[partition_of_user(user, len(self._keys))].recent(user)
        count, oldest = await ask(self._redis, [["ZCARD", key], ["ZRANGE", key, 0, 0]])
        return str(oldest[0]) if int(count) >= RECENT_MAX else None

    async def order_of_key(self, user: str, key: str) -> str | None:
        """See `Reads.order_of_key`."""
        keys = self._keys[partition_of_user(user, len(self._keys))]
        (order_id,) = await ask(self._redis, [["HGET", keys.idempotency(user, key), "order"]])
        return str(order_id) if order_id else None

    async def register_reader(self, name: str, at: Mapping[int, Position]) -> None:
        """See `Reads.register_reader`."""
        seconds, _ = await self._redis.ask("TIME")
        commands: list[list[Any]] = [
            ["HSET", self._keys[partition].readers, name, orjson.dumps({"at": str(position), "seen": int(seconds)})]
            for partition, position in at.items()
        ]
        answered(await self._redis.send(commands))
