"""Starts the gateway: the one origin clients need. `python -m services.gateway`."""

import asyncio
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta

from libs.events.redis_log import RedisLog, open_redis_log
from libs.orders.archived import ArchivedReads
from libs.orders.store import open_store
from libs.orders.views import OrderViews
from libs.quoting.venue import Venue
from libs.quoting.venues import Venues
from libs.service.health import Health, admin_server, serve
from libs.service.http import open_session
from libs.service.lifecycle import run
from libs.service.settings import Settings
from libs.service.shared import Rate, open_shared
from libs.service.tokens import check_secrets
from services.gateway.accounts import Accounts, open_database
from services.gateway.app import make_app
from services.gateway.auth import Passwords
from services.gateway.callers import Callers
from services.gateway.credentials import Credentials
from services.gateway.overload import Overload
from services.gateway.parts import Parts
from services.gateway.quotes import Quotes
from services.gateway.rates import Rates
from services.gateway.readiness import DATABASE, LOG, watch
from services.gateway.tunnel import Tunnels


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`, then answer what is in hand within the drain window."""
    check_secrets(*settings.jwt_secrets())
    health = Health(LOG, DATABASE)
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_redis_log(settings.redis(), settings.partitions))
        parts = await _compose(settings, log, stack)
        await stack.enter_async_context(admin_server(health, settings.admin_host, settings.admin_port))
        app, many = make_app(parts, health), settings.gateways > 1
        await stack.enter_async_context(serve(app, settings.host, settings.port, drain_s=settings.drain_s, shared=many))
        async with asyncio.TaskGroup() as group:
            # Not before it listens: who is ready can be reached.
            watching = [watch(log, parts.log_open, parts.accounts, health), parts.overload.watch()]
            tasks = [group.create_task(each) for each in watching]
            await stop.wait()
            health.trouble("process", "stopping")
            for task in tasks:
                task.cancel()


async def _compose(settings: Settings, log: RedisLog, stack: AsyncExitStack) -> Parts:
    secrets = settings.jwt_secrets()
    store = await stack.enter_async_context(open_store(settings.database_url))
    accounts = Accounts(await stack.enter_async_context(open_database(settings.database_url)))
    shared = await stack.enter_async_context(open_shared(settings.redis()))
    credentials = Credentials(accounts, timedelta(seconds=settings.session_s))
    passwords = Passwords()
    stack.callback(passwords.close)
    return Parts(
        log=log,
        reads=ArchivedReads(log, store),
        log_open=asyncio.Event(),
        overload=Overload(
            log, wait_s_max=settings.overload_wait_s, memory_max_bytes=settings.redis_memory_mb * 1024 * 1024
        ),
        views=OrderViews(log, store),
        accounts=accounts,
        credentials=credentials,
        callers=Callers(credentials, secrets),
        rates=Rates(shared, reads=Rate(settings.reads_per_min, 60), writes=Rate(settings.writes_per_min, 60)),
        shared=shared,
        passwords=passwords,
        tunnels=Tunnels(settings.notifier_url),
        quotes=Quotes(await _venues(settings, stack), secrets, lambda: datetime.now(UTC)),
        secret=secrets[0],
        token_lifetime=timedelta(seconds=settings.access_token_s),
        slippage_bps=settings.slippage_bps,
        order_lifetime=timedelta(seconds=settings.order_lifetime_s),
        open_orders_max=settings.open_orders_per_user,
        proxies=settings.proxies,
        cors_origins=frozenset(filter(None, map(str.strip, settings.cors_origins.split(",")))),
    )


async def _venues(settings: Settings, stack: AsyncExitStack) -> Venues:
    session = await stack.enter_async_context(open_session())
    venues = [Venue(name, url, session, settings.quote_deadline_ms) for name, url in settings.venue_urls().items()]
    for venue in venues:
        await stack.enter_async_context(aclosing(venue))
    return Venues(venues, settings.split_from_bps)


if __name__ == "__main__":
    run("gateway", main, "database_url", "jwt_secret")
