"""What a repair reads and writes in Redis. Only while the log is closed; see `services.projector.repair`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any
from uuid import uuid4

import orjson

from libs.events.errors import LogUnavailable
from libs.events.ids import START, Position
from libs.events.log import Entry
from libs.events.reactions import WORKERS
from libs.events.redis_client import FENCED, as_dict
from libs.events.redis_entries import is_strange
from libs.events.redis_keys import Keys
from libs.events.redis_node import Commands
from libs.events.redis_nodes import Nodes, answered, ask
from libs.events.redis_remake import key_again, order_again, work_again
from libs.events.repair import Held, Restored, layout_of

COMMANDS_PER_CALL = 500
SCAN_PAGE = 1_000
GHOSTS_PAGE = 500
NEVER_A_REPLICA = f"master_replid2:{'0' * 40}"

# All of them also in a Redis that is full: only a log that is open can be trimmed.
# One call, so that no commit comes in between. With a name it closes the log as well. Says which run was asked.
LOOK = """#!lua flags=allow-oom
local found = {redis.call('HGETALL', KEYS[1]), redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1),
  redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1), redis.call('HVALS', KEYS[3]), ARGV[2],
  redis.call('XLEN', KEYS[2])}
if ARGV[1] ~= '' then
  redis.call('HSET', KEYS[1], 'mender', ARGV[1])
  redis.call('HDEL', KEYS[1], 'run')
end
return found"""
# Any commands, each after the number of its words.
WRITE = """#!lua flags=allow-oom
if redis.call('HGET', KEYS[1], 'mender') ~= ARGV[1] then
  return 0
end
local at = 2
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return 1"""
OPEN = """#!lua flags=allow-oom
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'mender')
if ARGV[1] ~= ARGV[2] or meta[1] ~= ARGV[3] or meta[2] ~= ARGV[4] then
  return 0
end
redis.call('HSET', KEYS[1], 'run', ARGV[1])
return 1"""


class RedisRepair:
    """The `LogRepair` port."""

    def __init__(self, redis: Nodes, keys: list[Keys]) -> None:
        self._redis, self._keys = redis, keys
        self._name = ""

    async def look(self) -> list[Held]:
        """See `LogRepair.look`."""
        return await self._look("")

    async def glance(self) -> list[Held]:
        """See `LogRepair.glance`."""
        replies = answered(await self._redis.send(self._looks("")))
        return [_held(partition, reply) for partition, reply in enumerate(replies) if reply is not None]

    async def close(self) -> list[Held]:
        """See `LogRepair.close`."""
        self._name = uuid4().hex
        return await self._look(self._name)

    async def _look(self, name: str) -> list[Held]:
        replies = await ask(self._redis, self._looks(name))
        return [_held(partition, reply) for partition, reply in enumerate(replies)]

    def _looks(self, name: str) -> Commands:
        return lambda run: [["EVAL", LOOK, 3, each.meta, each.log, each.readers, name, run] for each in self._keys]

    async def keeps_all(self) -> bool:
        """See `LogRepair.keeps_all`. A server that was a replica once may have missed what its primary had synced."""
        settings = [["CONFIG", "GET", name] for name in ("appendonly", "appendfsync")]
        return all(map(_keeps_all, await self._redis.everywhere([*settings, ["INFO", "replication"]])))

    async def entry(self, partition: int, at: Position) -> Entry | None:
        """See `LogRepair.entry`."""
        (rows,) = await ask(self._redis, [["XRANGE", self._keys[partition].log, str(at), str(at)]])
        return _entry(partition, rows[0]) if rows else None

    async def open(self, held: Sequence[Held], epoch: str) -> None:
        """See `LogRepair.open`."""

        def commands(run: str) -> list[list[Any]]:
            return [
                ["EVAL", OPEN, 1, self._keys[one.partition].meta, run, one.server_run, epoch, self._name]
                for one in held
            ]

        if not all(await ask(self._redis, commands)):
            raise LogUnavailable(FENCED)

    async def settle(self, partition: int, epoch: str, at: Position) -> None:
        """See `LogRepair.settle`."""
        meta = ["epoch", epoch, "layout", layout_of(len(self._keys)), "position", at.position, "ms", at.ms]
        await self._write(partition, [["HSET", self._keys[partition].meta, *meta]])

    async def empty_log(self, partition: int) -> None:
        """See `LogRepair.empty_log`."""
        await self._write(partition, [["DEL", self._keys[partition].log]])

    async def drop_strangers(self, partition: int) -> list[str]:
        """See `LogRepair.drop_strangers`."""
        log, after = self._keys[partition].log, "-"
        strangers: list[str] = []
        while True:
            (rows,) = await ask(self._redis, [["XRANGE", log, after, "+", "COUNT", GHOSTS_PAGE]])
            if not rows:
                break
            strangers += [entry_id for entry_id, flat in rows if is_strange(entry_id, as_dict(flat))]
            after = f"({rows[-1][0]}"
        for entry_id in strangers:
            await ask(self._redis, [["XDEL", log, entry_id]])
        return strangers

    async def drop_ghosts(self, partition: int) -> None:
        """See `LogRepair.drop_ghosts`. A Redis that died while it wrote a transaction may bring a part of it back at
        its second start (valkey-io/valkey#4342), before what was committed in between.
        """
        log, until = self._keys[partition].log, "+"
        following: int | None = None
        while True:
            (rows,) = await ask(self._redis, [["XREVRANGE", log, until, "-", "COUNT", GHOSTS_PAGE]])
            if not rows:
                return
            ghosts = []
            for entry_id, _ in rows:
                position = Position.parse(entry_id).position
                if following is not None and position >= following:
                    ghosts.append(entry_id)
                else:
                    following = position
            await self._write(partition, [["XDEL", log, *ghosts]] if ghosts else [])
            until = f"({rows[-1][0]}"

    async def append(self, partition: int, entries: Sequence[Entry]) -> None:
        """See `LogRepair.append`."""
        log = self._keys[partition].log
        await self._write(partition, [["XADD", log, str(entry.at), *chain(*entry.fields.items())] for entry in entries])

    async def forget_readers(self, partition: int) -> None:
        """See `LogRepair.forget_readers`."""
        await self._write(partition, [["DEL", self._keys[partition].readers]])

    async def forget_orders(self, partition: int) -> None:
        """See `LogRepair.forget_orders`."""
        keys = self._keys[partition]
        for pattern in (keys.order("*"), keys.idempotency("*", "*"), keys.recent("*"), keys.open("*")):
            await self._forget(partition, pattern)

    async def drop_work(self, partition: int) -> None:
        """See `LogRepair.drop_work`."""
        keys = self._keys[partition]
        streams = [keys.work(service) for service in WORKERS]
        groups = [["XGROUP", "CREATE", keys.work(service), service, "0", "MKSTREAM"] for service in WORKERS]
        await self._write(partition, [["DEL", keys.timers, *streams], *groups])

    async def parked_versions(self, partition: int) -> dict[str, int]:
        """See `LogRepair.parked_versions`."""
        (rows,) = await ask(self._redis, [["XRANGE", self._keys[partition].parked, "-", "+"]])
        found = [as_dict(flat) for _, flat in rows]
        # Items are parked for what is wrong with them, too; one without its order's version sets nothing aside.
        named = [fields for fields in found if "subject" in fields and fields.get("version", "").isdecimal()]
        return {fields["subject"]: int(fields["version"]) for fields in named}

    async def remake_orders(self, partition: int, orders: Sequence[Restored], now: datetime) -> None:
        """See `LogRepair.remake_orders`."""
        keys = self._keys[partition]
        await self._write(partition, list(chain(*(order_again(keys, restored, now) for restored in orders))))

    async def remake_work(self, partition: int, orders: Sequence[Restored], parked: Mapping[str, int]) -> None:
        """See `LogRepair.remake_work`."""
        waiting = [restored for restored in orders if parked.get(restored.order.id) != restored.order.version]
        await self._write(partition, list(chain(*(work_again(self._keys[partition], one) for one in waiting))))

    async def remake_keys(self, partition: int, entries: Sequence[Entry], now: datetime) -> None:
        """See `LogRepair.remake_keys`."""
        await self._write(partition, list(chain(*(key_again(self._keys[partition], entry, now) for entry in entries))))

    async def _forget(self, partition: int, pattern: str) -> None:
        cursor = "0"
        while True:
            ((cursor, found),) = await ask(self._redis, [["SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_PAGE]])
            if found:
                await self._write(partition, [["DEL", *found]])
            if cursor == "0":
                return

    async def _write(self, partition: int, commands: list[list[Any]]) -> None:
        meta = self._keys[partition].meta
        for start in range(0, len(commands), COMMANDS_PER_CALL):
            page = commands[start : start + COMMANDS_PER_CALL]
            words = chain(*([len(command), *command] for command in page))
            (done,) = await ask(self._redis, [["EVAL", WRITE, 1, meta, self._name, *words]])
            if not done:
                raise LogUnavailable("another process mends the log")


def _held(partition: int, reply: Any) -> Held:
    flat, first, last, readers, run, length = reply
    meta = as_dict(flat)
    return Held(
        partition,
        meta.get("epoch", ""),
        meta.get("layout", ""),
        meta.get("run", ""),
        run,
        int(meta.get("position", -1)),
        int(meta.get("ms", 0)),
        Position.parse(first[0][0]) if first else START,
        Position.parse(last[0][0]) if last else START,
        max(map(_position_of, readers), default=0),
        length,
    )


def _keeps_all(told: Sequence[Any]) -> bool:
    for reply in told:
        if isinstance(reply, LogUnavailable):
            raise reply
        if isinstance(reply, Exception):
            return False  # a server that is not to be asked
    *found, replication = told
    return found == [["appendonly", "yes"], ["appendfsync", "always"]] and NEVER_A_REPLICA in str(replication)


def _entry(partition: int, row: Any) -> Entry:
    entry_id, flat = row
    return Entry(partition, Position.parse(entry_id), as_dict(flat))


def _position_of(reader: str) -> int:
    try:
        return Position.parse(str(orjson.loads(reader)["at"])).position
    except (ValueError, KeyError, TypeError):
        return 0  # not one of ours
