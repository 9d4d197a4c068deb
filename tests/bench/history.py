"""A million events of history: how much memory `swaplog events` takes to print them, how fast a rebuild folds them."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from deploy.local.stores import Store
from libs.events.redis_client import Pipe, connect, learn_run
from libs.events.redis_keys import Keys
from libs.events.redis_log import open_redis_log
from libs.orders.batch import Batch
from libs.orders.migrate import migrate
from libs.orders.rebuild import drop, rebuild
from libs.orders.shadow import PREVIOUS
from libs.orders.store import open_store
from tests.bench.copies import AFTER, Copies
from tests.bench.figures import Result, per_second
from tests.bench.made import EVENTS_PER_ORDER, PARTITIONS
from tests.bench.projecting import made_entries
from tests.bench.target import ELSEWHERE, own_postgres, own_redis

MADE_ORDERS = 1_000
BATCH_ROWS = 2_000
ENDS = "SELECT partition, max(position) AS at, max(ms) AS ms FROM events GROUP BY partition"


async def measure(aof: str, events: int) -> Result:
    """The archive is filled; the log in Redis is at its end and holds none of them any more.

    Raises:
        RuntimeError: the command failed.
    """
    async with own_redis(aof) as redis, own_postgres() as postgres:
        await migrate(postgres.url)
        total = await _filled(redis, postgres, events)
        printed = await asyncio.to_thread(_printed, redis, postgres, total)
        # The first one makes what is live; the second finds it as it should be.
        await rebuild(postgres.url, switch=True, accept=True)
        await drop(postgres.url, PREVIOUS)
        report = await rebuild(postgres.url)
    trouble = f"{report.differing} orders differ after a rebuild" if report.differing else ""
    rebuilt = {"events": report.events, "per_s": per_second(report.events, report.seconds), "trouble": trouble}
    return {"printed": printed, "rebuild": rebuilt}


async def _filled(redis: Store, postgres: Store, events: int) -> int:
    entries = await made_entries(MADE_ORDERS)
    async with open_redis_log(redis.url, PARTITIONS) as log, open_store(postgres.url) as store:
        await log.start(create=True)
        projection, at = store.projection(), await store.projection().resume(log.epoch, PARTITIONS)
        for first in range(0, len(entries), BATCH_ROWS):
            at = await projection.apply(log.epoch, Batch(at, entries[first : first + BATCH_ROWS]))
    connection = await asyncpg.connect(postgres.url)
    try:
        copies = Copies(connection)
        await copies.begin()
        await copies.grow(max(1, events // (MADE_ORDERS * EVENTS_PER_ORDER)) - 1, AFTER, orders=False)
        await copies.end()
        ends = await connection.fetch(
            "SELECT partition, max(position) AS at, max(ms) AS ms FROM events GROUP BY partition"
        )
        for row in ends:
            move = "UPDATE checkpoints SET position = $2, ms = $3 WHERE partition = $1"
            await connection.execute(move, row["partition"], row["at"], row["ms"])
    finally:
        await connection.close()
    async with connect(redis.url, on_connect=learn_run) as client:
        moves = [["HSET", Keys(row["partition"]).meta, "position", row["at"], "ms", row["ms"]] for row in ends]
        await Pipe(client).send(moves)
    return sum(row["at"] for row in ends)


def _printed(redis: Store, postgres: Store, events: int) -> Result:
    """`swaplog events --json` of all of it, into a file."""
    kept = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    env = {**kept, "REDIS_URL": redis.url, "DATABASE_URL": postgres.url, "PARTITIONS": str(PARTITIONS)}
    with TemporaryDirectory(prefix="swaplog-bench-") as folder:
        lines, errors = Path(folder) / "lines", Path(folder) / "errors"
        began = time.perf_counter()
        with lines.open("wb") as out, errors.open("wb") as err:
            command = [sys.executable, "-m", "services.ops", "events", "--json"]
            process = subprocess.Popen(command, env=env, stdout=out, stderr=err)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        took = time.perf_counter() - began
        if process.returncode:
            raise RuntimeError(f"swaplog events ended with {process.returncode}: {errors.read_text()[-300:]}")
        with lines.open("rb") as file:
            count = sum(1 for _ in file)
    return {
        "events": count,
        "per_s": per_second(count, took),
        "peak_mib": round(used.ru_maxrss / 1024, 1),
        "cpu_us_per_event": round((used.ru_utime + used.ru_stime) / max(1, count) * 1e6, 1),
        "trouble": "" if count == events else f"{count} of {events} events printed",
    }
