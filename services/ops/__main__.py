"""`swaplog`: what happened, and why? For operators, read only but for `journey` and what is done with `--apply`."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cyclopts import App, CycloptsError, Parameter

from libs.events.redis_log import open_redis_log
from libs.orders.store import open_store
from libs.service.settings import Settings
from services.ops.commands import Commands
from services.ops.parking import ParkingCommands
from services.ops.rebuild import rebuild
from services.ops.stack import EXIT_INTERRUPTED, EXIT_UNREACHABLE, EXIT_USAGE, Refusal, Stack, refusing, settle

HELP = """Follow, replay and look after the orders of a running stack.

The stack is found by REDIS_URL and DATABASE_URL, else in DATA_DIR/stack.json (default: data/), which `make run` writes.
Exit codes: 0 done, 1 no such thing or the stores differ, 2 wrong usage, 3 a store cannot be reached, or the output
not be written."""


@asynccontextmanager
async def open_stack(settings: Settings) -> AsyncIterator[Stack]:
    """The stores of the running stack.

    Raises:
        Refusal: they cannot be reached, or are not ours.
    """
    # The pool connects on first use; without an address it is never used.
    dsn = settings.database_url or "postgresql://127.0.0.1:1/none"
    with refusing():
        async with open_redis_log(settings.redis(), settings.partitions) as log, open_store(dsn) as store:
            yield await settle(log, store, settings)


def make_app() -> App:
    """The command line."""
    commands, parking = Commands(open_stack), ParkingCommands(open_stack)
    app = App(
        name="swaplog",
        help=HELP,
        help_format="plaintext",
        version_flags=[],
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(show_default=False, negative=()),
    )
    for command in (
        commands.events,
        commands.replay,
        commands.journey,
        commands.status,
        commands.stuck,
        parking.parked,
        parking.redrive,
        parking.discard,
        rebuild,
    ):
        app.command(command)
    return app


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives its exit code."""
    try:
        code = make_app()(arguments, exit_on_error=False, result_action="return_value")
        return code if isinstance(code, int) else 0
    except CycloptsError:
        return EXIT_USAGE
    except Refusal as refusal:
        sys.stderr.write(f"swaplog: {refusal}\n")
        return refusal.code
    except BrokenPipeError:  # whoever reads our output has seen enough
        _drop_what_is_left()
        return 0
    except OSError as error:  # stores that are away are refusals by now
        _drop_what_is_left()
        sys.stderr.write(f"swaplog: cannot write: {error.strerror or error}\n")
        return EXIT_UNREACHABLE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _drop_what_is_left() -> None:
    """The interpreter must not fail once more, on flushing it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
