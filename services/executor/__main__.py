"""The executor: `python -m services.executor`. Needs Redis, a chain node, the venues and WALLET_SECRET.

Exit code 1: an operator must look.
"""

import asyncio
import random
import sys
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime

import aiohttp
import structlog

from libs.events.errors import LogMismatch
from libs.events.opening import keep_working
from libs.events.reactions import EXECUTOR
from libs.events.redis_log import open_redis_log
from libs.events.retry import RetryPolicy
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health, admin_server
from libs.service.http import open_session
from libs.service.lifecycle import run
from libs.service.settings import ConfigurationError, Settings
from services.executor.chain import Chain
from services.executor.handlers import Executor
from services.executor.poller import Poller
from services.executor.rpc import Rpc
from services.executor.venues import VenueSwaps
from services.executor.wallet import Wallet

EXIT_STOPPED = 1


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Settle orders until `stop` is set."""
    try:
        wallet = Wallet(settings.wallet_secret.get_secret_value())
    except ValueError as error:
        raise ConfigurationError(f"WALLET_SECRET is not usable: {error}") from None
    health, limits = Health("log"), WorkerLimits()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admin_server(health, settings.admin_host, settings.admin_port))
        log = await stack.enter_async_context(open_redis_log(settings.redis(), settings.partitions))
        session = await stack.enter_async_context(open_session())
        executor = await _compose(settings, wallet, session, stack)
        worker = Worker(
            log,
            EXECUTOR,
            executor.handle,
            consumer=settings.process_name(),
            health=health,
            limits=limits,
            drain_s=settings.drain_s,
            handle_many=executor.handle_many,
        )
        try:
            await keep_working(log, worker, health, limits, stop)
        except LogMismatch as error:
            structlog.get_logger().error("stopped_by_the_log", reason=str(error))
            sys.exit(EXIT_STOPPED)


async def _compose(
    settings: Settings, wallet: Wallet, session: aiohttp.ClientSession, stack: AsyncExitStack
) -> Executor:
    rpc = await stack.enter_async_context(aclosing(Rpc(session, settings.chain_rpc_url)))
    chain = Chain(rpc)
    poller = await stack.enter_async_context(aclosing(Poller(chain, settings.poll_ms)))
    venues = {name: VenueSwaps(url, session) for name, url in settings.venue_urls().items()}
    for venue in venues.values():
        await stack.enter_async_context(aclosing(venue))
    return Executor(
        wallet=wallet,
        venues=venues,
        chain=chain,
        poller=poller,
        policy=RetryPolicy(settings.attempts_max, settings.retry_base_ms, settings.retry_cap_ms),
        now=lambda: datetime.now(UTC),
        fraction=random.random,
    )


if __name__ == "__main__":
    run(EXECUTOR, main, "wallet_secret", "venues")
