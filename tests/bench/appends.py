"""New orders per second into a Redis of its own: bare appends in batches, and what the log makes of them.

Three ways in turn, with batches of the same size over the same client, one batch under way at a time, all bytes of all
events the same:
- raw: a Lua script of nothing but XADD; what it is called with was prepared before the clock ran;
- script: the commit script, prepared likewise: what its checks and its other writes (the order's hash, the user's list,
  the work item) take;
- group: the group commit as services use it, from steps to outcomes; encoding and waking is in it.
"""

import asyncio
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from libs.events.log import STEPS_PER_COMMIT_MAX, Committed, Step
from libs.events.redis_commit import COMMIT, GroupCommit, encode
from libs.events.redis_keys import Keys
from libs.events.redis_nodes import Nodes
from tests.bench.figures import Result, per_second
from tests.bench.target import own_redis
from tests.builders import a_request

ROUNDS = 5
XADD_SCRIPT = "for i = 1, #ARGV, 22 do redis.call('XADD', KEYS[1], '*', unpack(ARGV, i, i + 21)) end return #ARGV / 22"
EPOCH = "bench"
now = time.perf_counter


async def measure(aof: str, count: int) -> Result:
    """Medians over `ROUNDS` rounds of `count` orders for each way.

    Raises:
        LogUnavailable: Redis went away.
    """
    async with own_redis(aof) as store:
        redis = Nodes(store.url)
        try:
            rounds = [await _round(redis, count) for _ in range(ROUNDS)]
        finally:
            await redis.close()
    rates = {name: median(one[name] for one in rounds) for name in rounds[0]}
    return {
        **rates,
        "group_of_raw": _ratio(rounds, "group_commit_per_s", "raw_batched_per_s"),
        "group_of_script": _ratio(rounds, "group_commit_per_s", "script_batched_per_s"),
        "script_of_raw": _ratio(rounds, "script_batched_per_s", "raw_batched_per_s"),
    }


async def _round(redis: Nodes, count: int) -> dict[str, float]:
    keys = Keys(0)
    await redis.send([["FLUSHDB"]])
    await redis.send([["HSET", keys.meta, "epoch", EPOCH, "position", "0", "ms", "0", "run", redis.run_of(keys.meta)]])
    return {
        "raw_batched_per_s": await _raw(redis, _steps(count)),
        "script_batched_per_s": await _scripted(redis, keys, _steps(count), STEPS_PER_COMMIT_MAX),
        "group_commit_per_s": await _grouped(redis, keys, _steps(count)),
        "script_one_by_one_per_s": await _scripted(redis, keys, _steps(count // 10), 1),
    }


def _steps(count: int) -> list[Step]:
    return [a_request(1, f"bench-{number % 100}")[0] for number in range(count)]


async def _raw(redis: Nodes, steps: Sequence[Step]) -> float:
    calls: list[list[Any]] = []
    for batch in _batches(steps, STEPS_PER_COMMIT_MAX):
        fields = [part for step in batch for field in step.events[0].fields().items() for part in field]
        calls.append(["EVAL", XADD_SCRIPT, 1, "bench:raw", *fields])
    began = now()
    for call in calls:
        await redis.send([call])
    return per_second(len(steps), now() - began)


async def _scripted(redis: Nodes, keys: Keys, steps: Sequence[Step], size: int) -> float:
    calls = [encode(keys, EPOCH, batch) for batch in _batches(steps, size)]
    before, began = await _position(redis, keys), now()
    for call in calls:
        await COMMIT.call(redis, [call])
    took = now() - began
    assert await _position(redis, keys) == before + len(steps), "not every step was written"
    return per_second(len(steps), took)


async def _position(redis: Nodes, keys: Keys) -> int:
    (position,) = await redis.send([["HGET", keys.meta, "position"]])
    return int(position)


async def _grouped(redis: Nodes, keys: Keys, steps: Sequence[Step]) -> float:
    group = GroupCommit(redis, [keys], EPOCH)
    began = now()
    outcomes = await asyncio.gather(*map(group.submit, steps))
    took = now() - began
    assert all(isinstance(outcome, Committed) for outcome in outcomes)
    return per_second(len(steps), took)


def _batches(steps: Sequence[Step], size: int) -> list[list[Step]]:
    return [list(steps[at : at + size]) for at in range(0, len(steps), size)]


def _ratio(rounds: Sequence[dict[str, float]], part: str, whole: str) -> float:
    return round(median(one[part] / one[whole] for one in rounds), 3)
