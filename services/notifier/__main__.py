"""Starts the notifier: the WebSockets that carry every event of an order to its owner."""

import asyncio

from libs.events.redis_log import open_redis_log
from libs.orders.archived import ArchivedReads
from libs.orders.store import open_store
from libs.orders.views import OrderViews
from libs.service.health import Health, admin_server, serve
from libs.service.lifecycle import run
from libs.service.settings import Settings
from libs.service.shared import open_shared
from libs.service.tokens import check_secrets, verify_token
from services.notifier.access import Access
from services.notifier.app import make_app
from services.notifier.hub import Hub
from services.notifier.limits import Limits
from services.notifier.tail import Tail


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`, then send everybody away with a code that lets them come back."""
    secrets = settings.jwt_secrets()
    check_secrets(*secrets)
    limits, health = Limits(sockets_per_user_max=settings.sockets_per_user), Health("log")

    def heard(trouble: str) -> None:
        health.trouble("log", trouble) if trouble else health.ok("log")

    async with (
        open_redis_log(settings.redis(), settings.partitions) as log,
        open_store(settings.database_url) as store,
        open_shared(settings.redis()) as shared,
        admin_server(health, settings.admin_host, settings.admin_port),
    ):
        views = OrderViews(log, store)
        reads = ArchivedReads(log, store)
        hub = Hub(reads, views, limits)
        access = Access(
            hub, views, lambda token: verify_token(token, *secrets), shared.take_ticket, log.partitions, limits
        )
        async with serve(make_app(hub, access, health), settings.host, settings.notifier_port):
            beating = asyncio.create_task(beat(hub, limits.heartbeat_s))
            name = f"notifier-{settings.process_name()}"
            await Tail(reads, hub, limits, name=name, reopen=log.start).follow(stop, heard)
            health.trouble("process", "stopping")
            beating.cancel()
            await hub.drain()


async def beat(hub: Hub, every_s: float) -> None:
    """Signs of life, until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        await hub.beat()


if __name__ == "__main__":
    run("notifier", main, "database_url", "jwt_secret")
