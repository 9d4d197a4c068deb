"""What must be known of a machine and its stores to read figures made on it."""

import os
import platform
import resource
import subprocess
from pathlib import Path
from typing import Any

import asyncpg
import psutil  # type: ignore[import-untyped]

from libs.events.redis_client import Pipe, connect, learn_run
from tests.bench.figures import Result
from tests.bench.target import Target

ROOT = Path(__file__).parents[2]


def machine() -> Result:
    """Cores, how busy they were, and the commit."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "commit": _commit(),
    }


async def stores(target: Target) -> Result:
    """Which stack it is, its stores, and what they promise."""
    return {
        "stack": target.what,
        "file_system": _file_system(target.data),
        **await _redis(target.redis_url),
        **await _postgres(target.database_url),
    }


async def _redis(url: str) -> Result:
    async with connect(url, on_connect=learn_run) as client:
        info, aof, fsync = await Pipe(client).send(
            [["INFO", "server"], ["CONFIG", "GET", "appendonly"], ["CONFIG", "GET", "appendfsync"]]
        )
    lines = dict(line.split(":", 1) for line in str(info).splitlines() if ":" in line)
    product = "Valkey" if "valkey_version" in lines else "Redis"
    version = lines.get("valkey_version") or lines.get("redis_version")
    return {"redis": f"{product} {version}", "appendonly": _value(aof), "appendfsync": _value(fsync)}


def _value(reply: Any) -> str:
    # A managed Redis may refuse CONFIG.
    return str(reply[1]) if isinstance(reply, list) and len(reply) == 2 else "not told"


async def _postgres(url: str) -> Result:
    connection = await asyncpg.connect(url)
    try:
        names = ("server_version", "fsync", "synchronous_commit")
        version, *durability = [str(await connection.fetchval(f"SHOW {name}")) for name in names]
    finally:
        await connection.close()
    return {"postgres": version, **dict(zip(names[1:], durability, strict=True))}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _file_system(data: Path) -> str:
    """Its kind tells whether an fsync was one: in memory it costs nothing."""
    home = data.resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if home.is_relative_to(part.mountpoint)]
    return str(max(mounts, key=lambda part: len(part.mountpoint)).fstype) if mounts else "unknown"


def _commit() -> str:
    try:
        asked = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    return asked.stdout.strip() or "unknown"


def raise_file_limit(wanted: int) -> None:
    """Let this process and those it starts open so many files, as far as they may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, hard)), hard))
