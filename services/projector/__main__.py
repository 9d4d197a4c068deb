"""The projector: `python -m services.projector`. Needs DATABASE_URL and Redis; exit code 1: an operator must look."""

import asyncio
import sys
from contextlib import aclosing

from libs.events.errors import EventLogError
from libs.events.redis_log import open_redis_log
from libs.orders.locks import Lock, Seat
from libs.orders.store import StoreError, open_store
from libs.service.health import Health, admin_server
from libs.service.lifecycle import run
from libs.service.settings import Settings
from services.projector import observe
from services.projector.handlers import Projector
from services.projector.janitor import Janitor
from services.projector.repair import Repair

EXIT_STOPPED = 1
MIB = 1024 * 1024


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Project until `stop` is set."""
    health = Health("redis", "postgres")
    async with (
        admin_server(health, settings.admin_host, settings.admin_port),
        open_redis_log(settings.redis(), settings.partitions) as log,
        open_store(settings.database_url) as store,
        aclosing(Seat(store, Lock.PROJECTING)) as seat,
    ):
        try:
            projection = store.projection(through=seat)
            repair = Repair(log, store, projection)
            janitor = Janitor(log, keep_s=settings.log_keep_s, memory_max_bytes=settings.redis_memory_mb * MIB)
            await Projector(log, projection, health, repair, janitor, seat).run(stop)
        except (EventLogError, StoreError) as error:
            observe.stopped(error)
            sys.exit(EXIT_STOPPED)


if __name__ == "__main__":
    run("projector", main, "database_url")
