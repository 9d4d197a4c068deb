"""The router: `python -m services.router`. Needs Redis and the venues; exit code 1: an operator must look."""

import asyncio
import random
import sys
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime

import structlog
from aiohttp import ClientSession

from libs.events.errors import LogMismatch
from libs.events.opening import keep_working
from libs.events.reactions import ROUTER
from libs.events.redis_log import open_redis_log
from libs.events.retry import RetryPolicy
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.quoting.venue import Venue
from libs.quoting.venues import Venues
from libs.service.health import Health, admin_server
from libs.service.http import open_session
from libs.service.lifecycle import run
from libs.service.settings import Settings
from services.router.handlers import Router
from services.router.prices import PriceWatch

EXIT_STOPPED = 1


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Route orders until `stop` is set."""
    health, limits = Health("log"), WorkerLimits()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(admin_server(health, settings.admin_host, settings.admin_port))
        log = await stack.enter_async_context(open_redis_log(settings.redis(), settings.partitions))
        session = await stack.enter_async_context(open_session())
        router = Router(
            venues=await market(settings, session, stack),
            policy=RetryPolicy(settings.attempts_max, settings.retry_base_ms, settings.retry_cap_ms),
            now=lambda: datetime.now(UTC),
            fraction=random.random,
        )
        worker = Worker(
            log,
            ROUTER,
            router.handle,
            consumer=settings.process_name(),
            health=health,
            limits=limits,
            drain_s=settings.drain_s,
            handle_many=router.handle_many,
        )
        try:
            # Of its own: orders on their way neither queue behind its questions nor want for room to be split.
            watched = await market(settings, session, stack)
            watching = asyncio.create_task(PriceWatch(log, watched).run())
            stack.callback(watching.cancel)
            await keep_working(log, worker, health, limits, stop)
        except LogMismatch as error:
            structlog.get_logger().error("stopped_by_the_log", reason=str(error))
            sys.exit(EXIT_STOPPED)


async def market(settings: Settings, session: ClientSession, stack: AsyncExitStack) -> Venues:
    """All venues that are configured, with as many calls under way at each as one who asks may have."""
    venues = [Venue(name, url, session, settings.quote_deadline_ms) for name, url in settings.venue_urls().items()]
    for venue in venues:
        await stack.enter_async_context(aclosing(venue))
    return Venues(venues, settings.split_from_bps)


if __name__ == "__main__":
    run(ROUTER, main, "venues")
