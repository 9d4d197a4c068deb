"""Child processes that never outlive this one: started, signalled, waited for.

On Linux the kernel kills a child when its parent dies (PR_SET_PDEATHSIG). Elsewhere there is no such signal: a parent
killed with SIGKILL leaves its children running there, and the next start says so.
"""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from deploy.local.death import die_with_parent, libc

LAST_LINE_BYTES_MAX = 8_192
ROOM_BYTES_MIN = 1024 * 1024


def never() -> bool:
    """Of a process that ends when it is asked to."""
    return False


@dataclass(frozen=True)
class Command:
    """How to run one process; everything it says goes to the end of `log`. `nice`: added to our own niceness.

    `waits_to_end`: whether it was asked to end, and waits for its clients to leave first.
    """

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str]
    cwd: Path | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    keep_fds: tuple[int, ...] = ()
    nice: int = 0
    waits_to_end: Callable[[], bool] = never


class Child(Protocol):
    """What `Process` needs of whoever started it; `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...

    def wait(self) -> int:
        """Block until it has ended; gives the exit code, negative for a signal."""


class Process:
    """One run of a command."""

    def __init__(self, command: Command, child: Child, log_start: int) -> None:
        self.command = command
        self.pid = child.pid
        self._child = child
        self._log_start = log_start
        self._exit: Future[int] = Future()
        if command.nice:
            with suppress(OSError):  # it has ended already
                os.setpriority(os.PRIO_PROCESS, self.pid, os.getpriority(os.PRIO_PROCESS, 0) + command.nice)
        # A thread, because it needs no event loop, no signal handler and no polling.
        threading.Thread(target=self._wait, name=f"wait-{command.name}", daemon=True).start()

    def _wait(self) -> None:
        self._exit.set_result(self._child.wait())

    @property
    def running(self) -> bool:
        return not self._exit.done()

    async def exited(self) -> int:
        """Wait for the end; gives the exit code, negative for a signal."""
        return await asyncio.shield(asyncio.wrap_future(self._exit))

    def signal(self, number: int) -> None:
        """Send a signal to the process and what it started."""
        if self.running:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def stop(self, within_s: float) -> int:
        """Ask it to end, and after `within_s` seconds do not ask any more."""
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, self.command.stop_signal)
        try:
            return await asyncio.wait_for(self.exited(), within_s)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            return await self.exited()

    def last_line(self, having: str = "") -> str:
        """The last thing this run said, with these words in it, or "" if it said nothing such."""
        try:
            log = self.command.log.open("rb")
        except FileNotFoundError:
            return ""
        with log:
            size = log.seek(0, os.SEEK_END)
            # It may have started over since.
            start = self._log_start if self._log_start <= size else 0
            log.seek(max(start, size - LAST_LINE_BYTES_MAX))
            lines = log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip() and having in line), "")


def opened(log: Path) -> BinaryIO:
    """The log, to write at its end; its folder is made again if somebody removed it for room."""
    log.parent.mkdir(mode=0o700, exist_ok=True)
    return log.open("ab")


def spawn(command: Command) -> Process:
    """Start a process in a session of its own, so that Ctrl-C in the terminal reaches only us.

    Call it from a thread that lives as long as the child should: the kernel's signal follows the thread.
    """
    user = pwd.getpwnam(command.user) if command.user else None
    with opened(command.log) as log:
        start = log.tell()
        popen = subprocess.Popen(  # noqa: S603 - argv is a list we made
            list(command.argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=command.cwd,
            env=dict(command.env),
            start_new_session=True,
            pass_fds=command.keep_fds,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            preexec_fn=_dying_with_parent(command.death_signal),  # noqa: PLW1509 - one system call, no lock
        )
    return Process(command, popen, start)


Spawn = Callable[[Command], Process]


def _dying_with_parent(number: signal.Signals) -> Callable[[], None]:
    """What the child does between fork and exec; after the change of user, which would undo it."""
    libc()
    return partial(die_with_parent, os.getpid(), number)


def how_it_ended(code: int) -> str:
    """An exit code in words: `exited with code 1`, `was killed by SIGKILL`."""
    if code >= 0:
        return f"exited with code {code}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


def why_no_room(folder: Path) -> str:
    """That its disk is full; empty: there is room."""
    with suppress(OSError):
        return f"there is no room on the disk of {folder}" if shutil.disk_usage(folder).free < ROOM_BYTES_MIN else ""
    return ""
