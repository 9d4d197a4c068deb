"""`make run`: the whole system on this machine, until Ctrl-C."""

import asyncio
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from deploy.local.stack import Stack
from libs.service.settings import EXIT_USAGE, ConfigurationError, load_settings
from libs.service.terminal import harmless

FROM = {"url": "given", "path": "installed on this machine", "wheel": "from the Python package", "docker": "container"}

READY = """
Swaplog is ready after {seconds:.1f} s:  {address}

  API       {address}/api/docs
  Redis     {redis.version}, {redis_from}
  Postgres  {postgres.version}, {postgres_from}
  data      {data}
  logs      {logs}/<service>.log

Try it in another terminal:

  TOKEN=$(curl -s {address}/api/auth/signup -H 'content-type: application/json' \\
    -d '{{"email":"me'$RANDOM'@example.org","password":"correct horse battery"}}' \\
    | sed 's/.*"token": *"\\([^"]*\\)".*/\\1/')
  curl -s {address}/api/orders -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' \\
    -d '{{"tokenIn":"SOL","tokenOut":"USDC","amount":10}}'
  curl -s {address}/api/orders -H "authorization: Bearer $TOKEN"

  make journey    posts an order and prints every event as it happens

Ctrl-C stops everything."""


def say(line: str) -> None:
    with suppress(OSError):  # nobody listens any more (`make run | head`)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def repeat(line: str) -> None:
    """What a service or a store said, with whatever a stranger had it say."""
    say(harmless(line))


async def serve() -> None:
    """Everything up, said so, and down again when a signal cancels this.

    Raises:
        ConfigurationError: it cannot come up; one line, nothing left running.
    """
    started = time.monotonic()
    stack = Stack(load_settings().data_dir, tell=repeat)
    _stop_on_signals(stack)
    async with stack:
        say(_ready_text(stack, time.monotonic() - started))
        with suppress(asyncio.CancelledError):  # our own signal handler's
            await asyncio.Event().wait()
        say("\nstopping; Ctrl-C again does not wait for what is in hand")


def _stop_on_signals(stack: Stack) -> None:
    """The first signal ends in order, the next one at once."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    signals_seen = 0

    def stop() -> None:
        nonlocal signals_seen
        signals_seen += 1
        if signals_seen == 1 and task:
            task.cancel()
        else:
            stack.hurry()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup asks for that
            loop.add_signal_handler(number, stop)


def _ready_text(stack: Stack, seconds: float) -> str:
    redis, postgres = stack.stores["redis"], stack.stores["postgres"]
    return READY.format(
        seconds=seconds,
        address=stack.base_url,
        redis=redis,
        redis_from=FROM[redis.rung],
        postgres=postgres,
        postgres_from=FROM[postgres.rung],
        data=_where_data_is(stack.folders.data),
        logs=stack.folders.logs,
    )


def _where_data_is(data: Path) -> str:
    """Of a backup both are needed."""
    postgres = data / "postgres"
    return f"{data}, and of Postgres {postgres.resolve()}" if postgres.is_symlink() else str(data)


def main() -> int:
    try:
        with suppress(asyncio.CancelledError):
            asyncio.run(serve())
    except ConfigurationError as error:
        sys.stderr.write(f"swaplog: {error}\n")
        return EXIT_USAGE
    say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
