"""Trimming and measuring over Redis. By id only: a count knows nothing of readers, nor of the archive."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from libs.events.errors import LogNotOpen
from libs.events.ids import Position, partition_of
from libs.events.reactions import WORKERS
from libs.events.record import RETIRED_FIELDS
from libs.events.redis_client import FENCED, as_dict
from libs.events.redis_keys import Keys
from libs.events.redis_nodes import Nodes, answered, ask
from libs.events.upkeep import READER_EXPIRES_S, Pressure, Reader

# Only of the log that was checked: after a loss the entries are what the repair compares. Readers are asked here, so
# that none can register between the question and the cut; an id is two numbers, and neither fits a string comparison.
# Also in a Redis that is full: nothing else makes room in it.
TRIM = """#!lua flags=allow-oom
local meta = redis.call('HMGET', KEYS[1], 'run', 'epoch')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then
  return -1
end
local function parts(id)
  local ms, position = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(position)
end
local before, now = ARGV[3], tonumber(redis.call('TIME')[1])
local registered = redis.call('HGETALL', KEYS[3])
for field = 1, #registered, 2 do
  local sound, said = pcall(cjson.decode, registered[field + 1])
  local ms, position
  if sound and type(said) == 'table' and type(said.at) == 'string' and tonumber(said.seen) then
    ms, position = parts(said.at)
  end
  if position and tonumber(said.seen) > now then
    -- By a clock that was set back since: it would not be silent until then. From now on it is by this one.
    redis.call('HSET', KEYS[3], registered[field], string.format('{"at":"%s","seen":%d}', said.at, now))
    said.seen = now
  end
  if position and now - tonumber(said.seen) <= tonumber(ARGV[4]) then
    local before_ms, before_position = parts(before)
    if ms < before_ms or (ms == before_ms and position < before_position) then
      before = said.at
    end
  end
end
return redis.call('XTRIM', KEYS[2], 'MINID', '~', before)"""
FORGET = """
local value = redis.call('HGET', KEYS[1], ARGV[1])
if value and redis.call('TIME')[1] - cjson.decode(value).seen >= tonumber(ARGV[2]) then
  redis.call('HDEL', KEYS[1], ARGV[1])
end"""


# A hash that once held a long text stays a large one whatever is taken out of it, so it is made anew. Also in a Redis
# that is full: nothing may come between its end and its new beginning, and it is smaller afterwards.
RETIRE = """#!lua flags=allow-oom
for _, key in ipairs(KEYS) do
  local kept = {}
  for at, value in ipairs(redis.call('HMGET', key, unpack(ARGV))) do
    if value then
      kept[#kept + 1] = ARGV[at]
      kept[#kept + 1] = value
    end
  end
  if #kept > 0 then
    local left = redis.call('PTTL', key)
    redis.call('DEL', key)
    redis.call('HSET', key, unpack(kept))
    if left >= 0 then
      redis.call('PEXPIRE', key, math.max(1, left))
    end
  end
end"""


class RedisUpkeep:
    """The `Upkeep` role of `RedisLog`."""

    _redis: Nodes
    _keys: list[Keys]
    _epoch: str

    async def readers(self) -> list[Reader]:
        """See `Upkeep.readers`."""
        looks = [["TIME"], *(["HGETALL", keys.readers] for keys in self._keys)]
        time, *flats = answered(await self._redis.send(looks))
        now = int(time[0])
        return [reader for partition, flat in enumerate(flats) for reader in _readers(partition, flat or [], now)]

    async def forget_reader(self, reader: Reader) -> None:
        """See `Upkeep.forget_reader`."""
        await ask(
            self._redis, [["EVAL", FORGET, 1, self._keys[reader.partition].readers, reader.name, int(reader.silent_s)]]
        )

    async def trim(self, partition: int, before: Position) -> int:
        """See `Upkeep.trim`."""
        keys = self._keys[partition]

        def commands(run: str) -> list[list[Any]]:
            names = [keys.meta, keys.log, keys.readers]
            return [["EVAL", TRIM, len(names), *names, run, self._epoch, str(before), READER_EXPIRES_S]]

        gone = 0
        while True:
            # Of one call Redis takes ten thousand entries at most, so that others have their turn meanwhile.
            (more,) = await ask(self._redis, commands)
            if more < 0:
                # The janitor just tries again later: what is wrong is for the log's check to say.
                raise LogNotOpen(FENCED)
            if not more:
                return gone
            gone += int(more)

    async def retire(self, order_ids: Sequence[str]) -> None:
        """See `Upkeep.retire`."""
        by_partition: dict[int, list[str]] = {}
        for order_id in order_ids:
            partition = partition_of(order_id)
            by_partition.setdefault(partition, []).append(self._keys[partition].order(order_id))
        commands = [["EVAL", RETIRE, len(keys), *keys, *sorted(RETIRED_FIELDS)] for keys in by_partition.values()]
        if commands:
            answered(await self._redis.send(commands))

    async def pressure(self) -> Pressure:
        """See `Upkeep.pressure`."""
        works = [(keys.work(service), service) for keys in self._keys for service in WORKERS]
        told, groups = await asyncio.gather(
            self._redis.everywhere([["TIME"], ["INFO", "memory"]]),
            self._redis.send([["XINFO", "GROUPS", work] for work, _ in works]),
        )
        clocks, memories = zip(*filter(all, map(answered, told)), strict=True)
        now_ms = int(clocks[0][0]) * 1_000 + int(clocks[0][1]) // 1_000
        looks = [
            ["XRANGE", work, f"({_last_taken(reply)}", "+", "COUNT", 1]
            for (work, _), reply in zip(works, answered(groups), strict=True)
            if reply is not None
        ]
        found = answered(await self._redis.send(looks))
        oldest = [int(rows[0][0].partition("-")[0]) for rows in found if rows]
        used_bytes, max_bytes, evicts = max(map(_memory, memories))
        waiting_s = max(0.0, (now_ms - min(oldest)) / 1_000) if oldest else 0.0
        return Pressure(waiting_s, used_bytes, max_bytes, now_ms, evicts)


NO_EVICTION = "noeviction"


def _readers(partition: int, flat: list[str], now: int) -> Iterator[Reader]:
    for name, value in as_dict(flat).items():
        try:
            said = orjson.loads(value)
            yield Reader(name, partition, Position.parse(str(said["at"])), max(0, now - int(said["seen"])))
        except (ValueError, KeyError, TypeError):
            continue  # not one of ours


def _memory(info: Any) -> tuple[int, int, str]:
    """Used, allowed, and what is done then. Of several nodes the fullest counts: it is the first to refuse."""
    lines = dict(line.split(":", 1) for line in str(info).splitlines() if ":" in line)
    allowed, policy = int(lines["maxmemory"]), lines.get("maxmemory_policy", NO_EVICTION)
    return int(lines["used_memory"]), allowed, policy if allowed and policy != NO_EVICTION else ""


def _last_taken(groups: Any) -> str:
    """Up to where a work stream was handed out; its one group is the service's."""
    for flat in groups:
        return str(as_dict(flat)["last-delivered-id"])
    return "0-0"
