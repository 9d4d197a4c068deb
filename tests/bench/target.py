"""Which stack is measured: the running one, else one of our own that is gone afterwards."""

import ipaddress
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]

from deploy.local.folders import make_folders, remove_runtime
from deploy.local.stack import Stack
from deploy.local.stores import Store, postgres_store, redis_store
from libs.events.redis_client import Pipe, connect, learn_run
from libs.service.settings import ConfigurationError

# Ports nobody else has, and slots of no length: what is measured is the system, not the wait for its world.
OWN = {"PORT": "0", "NOTIFIER_PORT": "0", "LOCALNET_PORT": "0", "LOCALNET_SLOT_MS": "0"}
# What would lead away from stores of our own.
ELSEWHERE = ("REDIS_URL", "REDIS_HOST", "DATABASE_URL", "DATA_DIR")
AOF = ("everysec", "always")


@dataclass(frozen=True)
class Target:
    """What the bench needs to know of a stack. `what`: which one it is, in words; `restarts`: of its processes."""

    what: str
    base_url: str
    redis_url: str
    database_url: str
    pids: dict[str, int]
    data: Path
    restarts: Callable[[], Mapping[str, int]]


@asynccontextmanager
async def own_stack(aof: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Target]:
    """A new stack while the block runs, durable as `make run` is, with its append-only file synced as `aof` says.

    Raises:
        ConfigurationError: it cannot be started.
    """
    with own_folder() as data:
        async with Stack(data, env={**OWN, **(env or {})}, durable=True) as stack:
            await set_aof(stack.redis_url, aof)
            what = f"its own, LOCALNET_SLOT_MS={stack.env['LOCALNET_SLOT_MS']}"
            urls = stack.base_url, stack.redis_url, stack.database_url
            yield Target(what, *urls, stack.pids, data, lambda: stack.restarts)


@asynccontextmanager
async def own_redis(aof: str) -> AsyncIterator[Store]:
    """An empty Redis of its own, as a stack's is."""
    with own_folder() as data:
        folders = make_folders(data)
        try:
            async with redis_store(_environment(), folders, durable=True) as store:
                await set_aof(store.url, aof)
                yield store
        finally:
            remove_runtime(folders)


@asynccontextmanager
async def own_postgres() -> AsyncIterator[Store]:
    """An empty Postgres of its own, as a stack's is."""
    with own_folder() as data:
        folders = make_folders(data)
        try:
            async with postgres_store(_environment(), folders, durable=True) as store:
                yield store
        finally:
            remove_runtime(folders)


async def set_aof(redis_url: str, aof: str) -> None:
    """Sync the append-only file `always` or `everysec`, until Redis ends.

    Raises:
        ConfigurationError: Redis refuses.
    """
    async with connect(redis_url, on_connect=learn_run) as client:
        (said,) = await Pipe(client).send([["CONFIG", "SET", "appendfsync", aof]])
    if said != "OK":
        raise ConfigurationError(f"appendfsync {aof}: {said}")


@contextmanager
def own_folder() -> Iterator[Path]:
    """A data folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="swaplog-bench-") as folder:
        data = Path(folder) / "data"
        data.parent.chmod(0o711)  # Postgres may run as somebody else
        data.mkdir(mode=0o711)
        yield data


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ELSEWHERE}


def running_stack(data: Path) -> Target | None:
    """What `stack.json` says, or None when there is none, or its stack is gone.

    Raises:
        ConfigurationError: it cannot be read, or names another machine.
    """
    path = data / "stack.json"
    try:
        state = json.loads(path.read_text())
        if not psutil.pid_exists(state["supervisor"]):
            return None
        urls = state["base_url"], state["redis_url"], state["database_url"]
        target = Target(f"running on {data}", *urls, state["pids"], data, lambda: _restarted(path, state["pids"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error!r}") from None
    on_this_machine(target.base_url)
    return target


def on_this_machine(url: str) -> None:
    """Raises ConfigurationError when it is not: a bench is no friendly visitor."""
    host = urlsplit(url).hostname or ""
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if not here:
        raise ConfigurationError(f"{url} is not this machine: a bench is no friendly visitor")


def _restarted(path: Path, before: Mapping[str, int]) -> dict[str, int]:
    """The processes that are others now."""
    try:
        pids = json.loads(path.read_text())["pids"]
    except (OSError, ValueError, KeyError):
        return dict.fromkeys(before, 1)
    return {name: int(pids.get(name) != pid) for name, pid in before.items()}
