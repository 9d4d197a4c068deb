"""Starts the notifier: the WebSockets that carry every event of an order to its owner."""

import asyncio
import os
import socket

from libs.events.redis_log import open_redis_log
from libs.orders.archived import ArchivedReads
from libs.orders.store import open_store
from libs.orders.views import OrderViews
from libs.service.health import Health, admin_server, serve
from libs.service.lifecycle import run
from libs.service.settings import Settings
from libs.service.tokens import check_secret, verify_token
from services.notifier.app import OrdersSocket, make_app
from services.notifier.hub import Hub
from services.notifier.limits import Limits
from services.notifier.tail import Tail


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`, then send everybody away with a code that lets them come back."""
    secret = settings.jwt_secret.get_secret_value()
    check_secret(secret)
    limits, health = Limits(), Health("log")

    def heard(trouble: str) -> None:
        health.trouble("log", trouble) if trouble else health.ok("log")

    async with (
        open_redis_log(settings.redis(), settings.partitions) as log,
        open_store(settings.database_url) as store,
        admin_server(health, settings.host, settings.admin_port),
    ):
        views = OrderViews(log, store)
        hub = Hub(log, views, limits)
        endpoint = OrdersSocket(hub, views, lambda token: verify_token(token, secret), log.partitions, limits)
        async with serve(make_app(endpoint, health), settings.host, settings.notifier_port):
            name = f"notifier-{settings.consumer or f'{socket.gethostname()}-{os.getpid()}'}"
            await Tail(ArchivedReads(log, store), hub, limits, name=name, reopen=log.start).follow(stop, heard)
            health.trouble("process", "stopping")
            await hub.drain()


if __name__ == "__main__":
    run("notifier", main, "database_url", "jwt_secret")
