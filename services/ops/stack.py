"""Finding the running stack, and every reason a command cannot go on."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from libs.events.errors import LogMismatch, LogReplaced, LogUnavailable
from libs.events.log import EventLog
from libs.events.order import Order
from libs.events.upkeep import Upkeep
from libs.orders.store import OrderStore, StoreUnavailable
from libs.service.settings import ConfigurationError, Settings, load_settings

WRITTEN = ("partitions", "redis_memory_mb")  # of the settings a stack was started with
EXIT_DIFFERS, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 1, 2, 3, 130


class Refusal(Exception):
    """The command ends here, with one line for people and an exit code for scripts."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class StartableLog(EventLog, Upkeep, Protocol):
    """A log as it is opened."""

    async def start(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Stack:
    """An open log, and the archive unless it is away (`why_no_store` says why)."""

    log: StartableLog
    store: OrderStore | None
    why_no_store: str = ""

    async def find(self, order_id: str) -> Order | None:
        """The order as the log holds it and this release can read it, else as Postgres does, else None."""
        with suppress(ValueError):
            if snapshot := await self.log.find(order_id):
                return snapshot.order
        return await self.store.get(order_id) if self.store else None

    def archive(self) -> OrderStore:
        """For what only the archive knows.

        Raises:
            Refusal: it is away.
        """
        if self.store is None:
            raise Refusal(f"the archive cannot be asked: {self.why_no_store}", EXIT_UNREACHABLE)
        return self.store

    def unknown(self, order_id: str) -> Refusal:
        """Why nothing can be told of an order that no store that answers knows."""
        if self.store:
            return Refusal(f"no order {order_id}", EXIT_DIFFERS)
        text = f"order {order_id} is not in the log, and the archive cannot be asked: {self.why_no_store}"
        return Refusal(text, EXIT_UNREACHABLE)


def find_settings(environ: Mapping[str, str] = os.environ) -> tuple[Settings, str]:
    """The settings of the running stack and its base URL: the environment first, then what `make run` wrote down.

    It started what the environment does not name, so what it wrote counts where it runs on the Redis that was given.
    Whoever asks in another terminal has not the environment it was started with.

    Raises:
        Refusal: neither names a stack.
    """
    try:
        settings = load_settings()
    except ConfigurationError as error:
        raise Refusal(str(error), EXIT_USAGE) from None
    base_url = settings.origin(settings.port)
    path = settings.data_dir / "stack.json"
    given = environ.get("REDIS_URL") or environ.get("REDIS_HOST")
    if given and _redis_of(path) != settings.redis():
        return settings, base_url
    try:
        state = json.loads(path.read_text())
        found = settings.model_copy(
            update={
                "redis_url": str(state["redis_url"]),
                "database_url": settings.database_url or str(state["database_url"]),
                **{name: int(state[name]) for name in WRITTEN if name in state and not environ.get(name.upper())},
            }
        )
        return found, str(state.get("base_url", base_url))
    except FileNotFoundError:
        text = f"no running stack: {path.absolute()} is not there and REDIS_URL is not set; start one with `make run`"
        raise Refusal(f"{text}, or wait until it is ready", EXIT_USAGE) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{path} cannot be read: {error!r}", EXIT_USAGE) from None


def _redis_of(path: Path) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(path.read_text())["redis_url"])
    return ""


async def settle(log: StartableLog, store: OrderStore, settings: Settings) -> Stack:
    """The log, checked, and the archive as far as it answers.

    Raises:
        Refusal: Redis holds no log of ours.
        LogUnavailable: Redis does not answer.
    """
    try:
        # Looked at before `start`, which would make a log where there is none.
        await log.tip(0)
    except LogMismatch:
        text = "this Redis holds no log of Swaplog; if it lost one, a projector restores it from the archive first"
        raise Refusal(text, EXIT_UNREACHABLE) from None
    try:
        await log.start()
    except LogMismatch as error:
        raise Refusal(str(error), EXIT_USAGE) from None
    trouble = await _trouble_of(store) if settings.database_url else "DATABASE_URL is not set"
    return Stack(log, None if trouble else store, trouble)


@contextmanager
def refusing() -> Iterator[None]:
    """Stores that are away, or not what they were, end the command with one line."""
    try:
        yield
    except LogUnavailable as error:
        raise Refusal(f"the log cannot be reached: {error}", EXIT_UNREACHABLE) from error
    except LogReplaced as error:
        raise Refusal(f"the log was made again meanwhile, look at it anew: {error}", EXIT_DIFFERS) from error
    except StoreUnavailable as error:
        raise Refusal(f"the archive cannot be reached: {error}", EXIT_UNREACHABLE) from error


async def _trouble_of(store: OrderStore) -> str:
    try:
        await store.checkpoints()
    except StoreUnavailable as error:
        return str(error)
    return ""
