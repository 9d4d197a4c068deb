"""The log's meta data: which log this is, and whether the Redis that holds it was checked."""

from typing import Any

from libs.events.errors import LogMismatch, LogNotOpen
from libs.events.reactions import WORKERS
from libs.events.redis_client import FENCED, as_dict, translate
from libs.events.redis_keys import Keys
from libs.events.redis_nodes import Nodes, ask
from libs.events.repair import is_earlier, new_epoch

# All or nothing: the fence of a log that is there already must stay as it is.
MAKE_META = "if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('HSET', KEYS[1], unpack(ARGV)) end"


async def create_log(redis: Nodes, keys: list[Keys], layout: str) -> None:
    """Make what is missing (meta data, groups); what is there stays as it is.

    Raises:
        LogUnavailable: Redis is away.
    """
    # The first partition's epoch is that of all; of two processes at it the second takes what the first one made.
    await _create(redis, keys[:1], new_epoch(), layout)
    (epoch,) = await ask(redis, [["HGET", keys[0].meta, "epoch"]])
    await _create(redis, keys[1:], epoch, layout)
    groups: list[list[Any]] = [
        ["XGROUP", "CREATE", key.work(service), service, "0", "MKSTREAM"] for key in keys for service in WORKERS
    ]
    for reply in await redis.send(groups):
        if isinstance(reply, Exception) and not str(reply).startswith("BUSYGROUP"):
            raise translate(reply)


async def _create(redis: Nodes, keys: list[Keys], epoch: str, layout: str) -> None:
    def commands(run: str) -> list[list[Any]]:
        values = ("epoch", epoch, "layout", layout, "position", 0, "ms", 0, "run", run)
        return [["EVAL", MAKE_META, 1, key.meta, *values] for key in keys]

    if keys:
        await ask(redis, commands)


async def check_log(redis: Nodes, keys: list[Keys], layout: str) -> str:
    """Give the epoch of a log that is whole and checked.

    Raises:
        LogUnavailable: it is read from a replica.
        LogNotOpen: there is none, or it is still being checked.
        LogMismatch: it was made with other partitions, or its partitions are not of one log.
    """
    metas = await read_metas(redis, keys)
    for meta in metas:
        if not meta.get("epoch"):
            raise LogNotOpen("the log is not there yet: the projector makes it")
        if is_earlier(meta.get("layout", ""), len(keys)):
            raise LogNotOpen("an earlier release kept this log: the projector brings it up to date")
        if meta.get("layout") != layout:
            raise LogMismatch(f"this log was made as '{meta.get('layout')}', not '{layout}': set PARTITIONS to match")
    if any(meta.get("run") != redis.run_of(key.meta) for key, meta in zip(keys, metas, strict=True)):
        await redis.check_primary()
        raise LogNotOpen(FENCED)
    epochs = {meta["epoch"] for meta in metas}
    if len(epochs) > 1:
        raise LogMismatch(f"the partitions are of different logs: {', '.join(sorted(epochs))}")
    return epochs.pop()


async def read_metas(redis: Nodes, keys: list[Keys]) -> list[dict[str, str]]:
    """The meta data of each partition; empty where there are none."""
    flats = await ask(redis, [["HGETALL", key.meta] for key in keys])
    return list(map(as_dict, flats))
