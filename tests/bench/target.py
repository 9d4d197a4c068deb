"""Which stack is measured: the running one, else one of our own that is gone afterwards."""

import ipaddress
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]

from deploy.local.stack import Stack
from libs.service.settings import ConfigurationError, load_settings

# Ports nobody else has, and slots of no length: what is measured is the system, not the wait for its world.
OWN = {"PORT": "0", "NOTIFIER_PORT": "0", "LOCALNET_PORT": "0", "LOCALNET_SLOT_MS": "0"}


@dataclass(frozen=True)
class Target:
    """What the bench needs to know of a stack. `what`: which one it is, in words."""

    what: str
    base_url: str
    redis_url: str
    database_url: str
    pids: dict[str, int]
    data: Path


@asynccontextmanager
async def found_or_own(*, own: bool) -> AsyncIterator[Target]:
    """The stack `DATA_DIR/stack.json` tells of; with `own`, or where none runs, a new one while the block runs.

    Raises:
        ConfigurationError: it cannot be read, cannot be started, or is not on this machine.
    """
    running = None if own else running_stack(load_settings().data_dir)
    if running:
        yield running
        return
    sys.stderr.write(f"{'' if own else 'no stack is running: '}measuring one of my own, with slots of no length\n")
    with tempfile.TemporaryDirectory(prefix="swaplog-bench-") as folder:
        data = Path(folder) / "data"
        data.parent.chmod(0o711)  # Postgres may run as somebody else
        # Durable, as `make run` is: figures of stores that may forget would flatter.
        async with Stack(data, env=OWN, durable=True) as stack:
            yield Target(
                "its own, LOCALNET_SLOT_MS=0", stack.base_url, stack.redis_url, stack.database_url, stack.pids, data
            )


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
        target = Target(
            f"running on {data}", state["base_url"], state["redis_url"], state["database_url"], state["pids"], data
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error!r}") from None
    host = urlsplit(target.base_url).hostname or ""
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        raise ConfigurationError(f"{target.base_url} is not this machine: a bench is no friendly visitor")
    return target
