"""Trimming and measuring over Redis. By id only: a count knows nothing of readers, nor of the archive."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from libs.events.errors import LogUnavailable
from libs.events.ids import Position, partition_of
from libs.events.model import FIELD_NAMES
from libs.events.reactions import WORKERS
from libs.events.redis_client import FENCED, Pipe
from libs.events.redis_commit import RETIRED_FIELDS
from libs.events.redis_keys import Keys
from libs.events.redis_meta import ask
from libs.events.upkeep import Pressure, Reader

# Only of the log that was checked: after a loss the entries are what the repair compares.
TRIM = """
local meta = redis.call('HMGET', KEYS[1], 'run', 'epoch')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then
  return -1
end
return redis.call('XTRIM', KEYS[2], 'MINID', '~', ARGV[3])"""


_RETIRED = tuple(sorted({"status", "state", *FIELD_NAMES} - RETIRED_FIELDS))


class RedisUpkeep:
    """The `Upkeep` role of `RedisLog`."""

    _pipe: Pipe
    _keys: list[Keys]
    _epoch: str

    async def readers(self) -> list[Reader]:
        """See `Upkeep.readers`."""
        time, *flats = await ask(self._pipe, [["TIME"], *(["HGETALL", keys.readers] for keys in self._keys)])
        now = int(time[0])
        return [reader for partition, flat in enumerate(flats) for reader in _readers(partition, flat, now)]

    async def forget_reader(self, reader: Reader) -> None:
        """See `Upkeep.forget_reader`."""
        await ask(self._pipe, [["HDEL", self._keys[reader.partition].readers, reader.name]])

    async def trim(self, partition: int, before: Position) -> int:
        """See `Upkeep.trim`."""
        keys = self._keys[partition]

        def commands(run: str) -> list[list[Any]]:
            return [["EVAL", TRIM, 2, keys.meta, keys.log, run, self._epoch, str(before)]]

        (gone,) = await ask(self._pipe, commands)
        if gone < 0:
            # Nothing to do for the janitor but to come again: whoever checks the log says what is wrong with it.
            raise LogUnavailable(FENCED)
        return int(gone)

    async def retire(self, order_ids: Sequence[str]) -> None:
        """See `Upkeep.retire`."""
        commands: list[list[Any]] = [
            ["HDEL", self._keys[partition_of(order_id)].order(order_id), *_RETIRED] for order_id in order_ids
        ]
        if commands:
            await ask(self._pipe, commands)

    async def pressure(self) -> Pressure:
        """See `Upkeep.pressure`."""
        works = [(keys.work(service), service) for keys in self._keys for service in WORKERS]
        time, info, *groups = await ask(
            self._pipe, [["TIME"], ["INFO", "memory"], *(["XINFO", "GROUPS", work] for work, _ in works)]
        )
        now_ms = int(time[0]) * 1_000 + int(time[1]) // 1_000
        looks = [
            ["XRANGE", work, f"({_last_taken(reply)}", "+", "COUNT", 1]
            for (work, _), reply in zip(works, groups, strict=True)
        ]
        oldest = [int(rows[0][0].partition("-")[0]) for rows in await ask(self._pipe, looks) if rows]
        memory = dict(line.split(":", 1) for line in str(info).splitlines() if ":" in line)
        waiting_s = max(0.0, (now_ms - min(oldest)) / 1_000) if oldest else 0.0
        return Pressure(waiting_s, int(memory["used_memory"]), int(memory["maxmemory"]))


def _readers(partition: int, flat: list[str], now: int) -> Iterator[Reader]:
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        try:
            said = orjson.loads(value)
            yield Reader(name, partition, Position.parse(str(said["at"])), max(0, now - int(said["seen"])))
        except (ValueError, KeyError, TypeError):
            continue  # not one of ours


def _last_taken(groups: Any) -> str:
    """Up to where a work stream was handed out; its one group is the service's."""
    for flat in groups:
        group = dict(zip(flat[::2], flat[1::2], strict=True))
        return str(group["last-delivered-id"])
    return "0-0"
