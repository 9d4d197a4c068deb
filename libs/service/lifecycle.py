"""How every process starts and ends: settings, logging, loop, signals, exit code."""

import asyncio
import gc
import resource
import signal
import sys
from collections.abc import Awaitable, Callable

import structlog
import uvloop

from libs.service.logging import configure_logging
from libs.service.settings import EXIT_USAGE, ConfigurationError, Settings, load_settings

Main = Callable[[Settings, asyncio.Event], Awaitable[None]]

GC_AFTER_OBJECTS = 20_000
OPEN_FILES_WANTED = 65_536  # two for each socket a gateway hands over, and some for all else


def run(service: str, main: Main, *required: str) -> None:
    """Run `main(settings, stop)` until it returns; `stop` is set by SIGTERM or SIGINT.

    Exits with 2 and one line when the environment is not usable or a port is taken.
    """
    try:
        settings = load_settings(*required)
        configure_logging(service, settings.log_level, settings.log_format)
        permit_open_files()
        uvloop.run(_until_done(settings, main))
    except ConfigurationError as error:
        sys.exit(_usage(service, str(error)))


def _usage(service: str, reason: str) -> int:
    sys.stderr.write(f"{service}: {reason}\n")
    return EXIT_USAGE


def calm_collector() -> None:
    """What start-up made stays: the collector need not walk it again, and hardly need look for more."""
    gc.freeze()
    # Nearly nothing here is in cycles: looking for them every 700 objects took a tenth of all time under load.
    gc.set_threshold(GC_AFTER_OBJECTS, 20, 50)


def permit_open_files() -> None:
    """As many as are wanted, or the machine lets us: most shells permit 1,024, which 500 sockets use up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_WANTED)
    # Some systems, such as macOS, have a bound of their own, and say that there is none.
    while soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            wanted //= 2
        else:
            return


async def _until_done(settings: Settings, main: Main) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log = structlog.get_logger()
    calm_collector()
    log.info("started")
    await main(settings, stop)
    log.info("stopped")
