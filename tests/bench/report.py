"""Figures as a table for people, and the machine they were made on."""

import os
import platform
import subprocess
from collections.abc import Mapping
from typing import Any

import asyncpg

from libs.events.redis_client import REPLY_TIMEOUT_S, Pipe, connect
from tests.bench.figures import Result, flat, ratios


async def machine(redis_url: str, database_url: str) -> Result:
    """What must be known to read the figures."""
    async with connect(redis_url, reply_timeout_s=REPLY_TIMEOUT_S) as client:
        info, aof, fsync = await Pipe(client).send(
            [["INFO", "server"], ["CONFIG", "GET", "appendonly"], ["CONFIG", "GET", "appendfsync"]]
        )
    lines = dict(line.split(":", 1) for line in _text(info).splitlines() if ":" in line)
    connection = await asyncpg.connect(database_url)
    try:
        durable = {name: await connection.fetchval(f"SHOW {name}") for name in ("fsync", "synchronous_commit")}
        version = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    return {
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "redis": lines.get("valkey_version") or lines.get("redis_version"),
        "appendonly": _text(aof[1]),
        "appendfsync": _text(fsync[1]),
        "postgres": version,
        **durable,
        "commit": _commit(),
    }


def table(figures: Mapping[str, Any]) -> str:
    """Every figure under its path, one per line."""
    rows = [(path, value) for path, value in _leaves(figures)]
    width = max(len(path) for path, _ in rows)
    return "\n".join(f"{path:<{width}}  {value}" for path, value in rows)


def comparison(now: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Every number both runs have, and how many times the older one the newer is."""
    found = ratios(now, before)
    width = max(map(len, found), default=0)
    lines = [
        f"{path:<{width}}  {new:>12} {old:>12}  {'' if ratio is None else f'{ratio:.2f} x'}"
        for path, (new, old, ratio) in found.items()
    ]
    return "\n".join([f"{'':<{width}}  {'now':>12} {'before':>12}", *lines])


def _leaves(figures: Mapping[str, Any]) -> list[tuple[str, object]]:
    numbers = flat(figures)
    texts = {
        f"{name}.{key}": value
        for name, part in figures.items()
        if isinstance(part, Mapping)
        for key, value in part.items()
        if isinstance(value, str)
    }
    return [*texts.items(), *numbers.items()]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"
