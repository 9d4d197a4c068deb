"""What this machine's parts can do by themselves, measured in the same run: the stack's figures are shares of these."""

import asyncio
import sys
import time
from typing import Any

import asyncpg
import orjson

from libs.events.log import Committed, Step
from libs.events.redis_client import Pipe, connect as connect_redis, learn_run
from libs.events.redis_commit import COMMIT, GroupCommit, encode
from libs.events.redis_keys import Keys
from tests.bench.client import request_bytes
from tests.bench.cpu import CpuMeter, spent
from tests.bench.figures import Result, latencies_ms, per_second
from tests.bench.load import Sent, send_all
from tests.bench.users import Place
from tests.builders import a_request

WITHIN_S = 30
BATCH = 100
SCRATCH_PARTITION = 63  # a partition no log of ours uses: its keys are made and removed here
SCRATCH_TABLE = "bench_scratch"
XADD_SCRIPT = "for i = 1, #ARGV, 22 do redis.call('XADD', KEYS[1], '*', unpack(ARGV, i, i + 21)) end return #ARGV / 22"
BODY = orjson.dumps({"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"})
now = time.perf_counter


async def hello_posts(count: int, connections: int) -> Result:
    """POSTs to an aiohttp server that does nothing with them, by the client that measures the gateway."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.hello", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout
    assert server.stdin
    try:
        place = Place("127.0.0.1", int(await asyncio.wait_for(server.stdout.readline(), WITHIN_S)))
        request = request_bytes(place.header, "POST", "/api/orders", BODY, "x" * 200)
        cpu = CpuMeter({"hello": server.pid})
        sent, before, began = Sent(), cpu.read(), now()
        async with asyncio.timeout(WITHIN_S):
            await send_all(place, iter([(None, request)] * count), sent, connections)
        used = spent(before, cpu.read())["hello"]
    finally:
        server.stdin.close()
        await server.wait()
    return {
        "per_s": per_second(count, sent.last_answer - began),
        "post_ms": latencies_ms(sent.answered_after),
        "server_cpu_ms_per_post": round(used / count * 1_000, 3),
    }


async def appends(redis_url: str, count: int) -> Result:
    """New orders per second: raw batches of XADD in Lua, the commit script in batches, grouped, and one by one.

    Raises:
        LogUnavailable: Redis is away.
    """
    keys = Keys(SCRATCH_PARTITION)
    steps = [a_request(SCRATCH_PARTITION + 1, f"bench-{number}")[0] for number in range(count)]
    steps = [_moved(step) for step in steps]
    client = connect_redis(redis_url, on_connect=learn_run)
    async with client:
        pipe = Pipe(client)
        try:
            raw = await _raw_appends(pipe, keys, steps)
            meta = ["HSET", keys.meta, "epoch", "bench", "position", "0", "ms", "0", "run", pipe.run]
            await pipe.send([["DEL", keys.log], meta])
            batched = await _committed(pipe, keys, steps, BATCH)
            grouped = await _grouped(pipe, [_moved(step, "-group") for step in steps])
            alone = await _committed(pipe, keys, [_moved(step, "-again") for step in steps[: count // 10]], 1)
        finally:
            await _forget(pipe, keys)
    return {
        "raw_batched_per_s": raw,
        "commit_batched_per_s": batched,
        "group_commit_per_s": grouped,
        "commit_one_by_one_per_s": alone,
        "group_commit_of_raw": round(grouped / raw, 2) if raw else 0.0,
    }


def _moved(step: Step, suffix: str = "") -> Step:
    """The same step on an order of the scratch partition."""
    return Step(f"{step.order_id[:-3]}{suffix}{SCRATCH_PARTITION:03x}", step.user, 0, step.events, step.order)


async def _raw_appends(pipe: Pipe, keys: Keys, steps: list[Step]) -> float:
    batches = [steps[at : at + BATCH] for at in range(0, len(steps), BATCH)]
    began = now()
    for batch in batches:
        values: list[Any] = []
        for step in batch:
            for name, value in step.events[0].fields().items():
                values += (name, value)
        await pipe.send([["EVAL", XADD_SCRIPT, 1, keys.log, *values]])
    return per_second(len(steps), now() - began)


async def _committed(pipe: Pipe, keys: Keys, steps: list[Step], batch: int) -> float:
    began = now()
    for at in range(0, len(steps), batch):
        (replies,) = await COMMIT.call(pipe, [encode(keys, "bench", steps[at : at + batch])])
        assert all(reply[0] == "ok" for reply in replies), replies
    return per_second(len(steps), now() - began)


async def _forget(pipe: Pipe, keys: Keys) -> None:
    cursor, pattern = "0", f"{keys.log.rpartition(':')[0]}:*"
    while True:
        [(cursor, names)] = await pipe.send([["SCAN", cursor, "MATCH", pattern, "COUNT", 1000]])
        if names:
            await pipe.send([["UNLINK", *names]])
        if cursor in {"0", 0}:
            return


async def _grouped(pipe: Pipe, steps: list[Step]) -> float:
    group = GroupCommit(pipe, [Keys(partition) for partition in range(SCRATCH_PARTITION + 1)], "bench")
    began = now()
    outcomes = await asyncio.gather(*map(group.submit, steps))
    assert all(isinstance(outcome, Committed) for outcome in outcomes)
    return per_second(len(steps), now() - began)


async def rows(database_url: str, count: int, batch: int = 500) -> Result:
    """Rows per second into a table like the archive, over one connection: COPY and UNNEST in batches."""
    connection = await asyncpg.connect(database_url)
    body = orjson.dumps({"some": "event", "of": "the usual length", "with": ["a", "few", "parts"] * 6}).decode()
    records = [(0, number, body) for number in range(count)]
    try:
        await connection.execute(f"DROP TABLE IF EXISTS {SCRATCH_TABLE}")
        await connection.execute(
            f"CREATE TABLE {SCRATCH_TABLE} "
            "(partition smallint, position bigint, data json, PRIMARY KEY (partition, position))"
        )
        began = now()
        for at in range(0, count, batch):
            await connection.copy_records_to_table(SCRATCH_TABLE, records=records[at : at + batch])
        copied = per_second(count, now() - began)
        await connection.execute(f"TRUNCATE {SCRATCH_TABLE}")
        insert = f"INSERT INTO {SCRATCH_TABLE} SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::json[])"
        began = now()
        for at in range(0, count, batch):
            await connection.execute(insert, *map(list, zip(*records[at : at + batch], strict=True)))
        return {"copy_per_s": copied, "unnest_per_s": per_second(count, now() - began)}
    finally:
        await connection.execute(f"DROP TABLE IF EXISTS {SCRATCH_TABLE}")
        await connection.close()
