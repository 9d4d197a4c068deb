"""Keeping one process running: started, watched until ready, started again with a growing pause when it ends."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from deploy.local.plan import NotReachable
from deploy.local.processes import Command, Process, Spawn, how_it_ended, spawn, why_no_room
from libs.service.settings import EXIT_USAGE, ConfigurationError

RESTART_FIRST_S = 0.5
RESTART_CAP_S = 30.0
RESTART_FORGET_S = 60.0  # a run this long was a good one: the next pause is the first again
READY_POLL_FIRST_S = 0.02
READY_POLL_CAP_S = 0.2
WAITS_TO_END_POLL_S = 1.0
NOT_DEADLY = {signal.SIGSTOP, signal.SIGCONT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
LINE_CHARS_MAX = 200

Tell = Callable[[str], None]


def unheard(_line: str) -> None:
    """A `Tell` that drops the line."""


def nothing() -> None:
    """The default of `changed`: nothing to do."""


@dataclass
class Supervised:
    """One command that should be running.

    `check` returns when the process is ready and raises NotReachable with the reason while it is not.
    `must_start`: any end before the first readiness is final; else only exit code 2 is (a wrong environment).
    `changed` is called when there is another process, or none.
    """

    command: Command
    check: Callable[[], Awaitable[object]]
    tell: Tell
    must_start: bool = False
    spawn: Spawn = spawn
    changed: Callable[[], None] = nothing
    restarts: int = 0
    process: Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    not_ready_because: str = "not started"
    last_end: str = ""  # since it was ready; how it stands now may say nothing
    _failed: asyncio.Event = field(default_factory=asyncio.Event)
    _failure: str = ""
    _was_ready: bool = False
    _task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.command.name

    def start(self) -> None:
        """Begin to keep it running."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def until_ready(self) -> None:
        """Wait until it is ready.

        Raises:
            ConfigurationError: it will never be, as it stands.
        """
        waits = [asyncio.ensure_future(event.wait()) for event in (self.ready, self._failed)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._failed.is_set():
            raise ConfigurationError(self._failure)

    async def stop(self, within_s: float) -> None:
        """End it for good, or until the next `start`."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        if self.process:
            await self.process.stop(within_s)
        self.ready.clear()
        self.changed()

    async def kill(self, number: signal.Signals) -> None:
        """Send a signal; after a deadly one, wait until the process is gone. It will be started again."""
        process = self.process
        if process is None or not process.running:
            return
        if number in NOT_DEADLY:
            process.signal(number)
            return
        self.ready.clear()
        process.signal(number)
        await process.exited()

    async def _keep(self) -> None:
        pause_s = RESTART_FIRST_S
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                code = await self._run_once()
                ended = self._how_it_ended(code)
                final = self._is_final(code)
            except OSError as error:
                ended, final = f"{self.name} cannot be started: {error}", not self._was_ready
            if final:
                self._failure = self._failure or ended
                self._failed.set()
                return
            if loop.time() - started > RESTART_FORGET_S:
                pause_s = RESTART_FIRST_S
            self.restarts += 1
            self.not_ready_because = self.last_end = ended
            self.tell(f"{ended}; again in {pause_s:g} s; log: {self.command.log}")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RESTART_CAP_S)

    async def _run_once(self) -> int:
        self.process = self.spawn(self.command)
        self.changed()
        watch = asyncio.create_task(self._watch(self.process))
        try:
            return await self.process.exited()
        finally:
            watch.cancel()
            self.ready.clear()

    async def _watch(self, process: Process) -> None:
        await self._until_ready(process)
        while process.running:
            if self.command.waits_to_end():
                # Its clients are our services, which would never leave it.
                self.tell(f"{self.name} was asked to end, and waits for its clients: it ends at once")
                process.signal(self.command.stop_signal)
                return
            await asyncio.sleep(WAITS_TO_END_POLL_S)  # a server that was asked to end tells nobody

    async def _until_ready(self, process: Process) -> None:
        pause_s = READY_POLL_FIRST_S
        while process.running:
            try:
                await self.check()
            except NotReachable as reason:
                self.not_ready_because = str(reason)
            else:
                break
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.2, READY_POLL_CAP_S)
        if process.running:
            if self._was_ready:
                self.tell(f"{self.name} is ready again")
            self._was_ready, self.last_end = True, ""
            self.ready.set()

    def _is_final(self, code: int) -> bool:
        """Whether this end before any readiness means that there is no use in trying again."""
        if self._was_ready or not (self.must_start or code == EXIT_USAGE):
            return False
        if code == EXIT_USAGE and self.process and not self.must_start:
            self._failure = self.process.last_line()  # its own words are the best
        return True

    def _how_it_ended(self, code: int) -> str:
        # What a process says last on a full disk is not written, and what it said before misleads.
        said = self.process.last_line() if self.process and code > 0 else ""
        said = why_no_room(self.command.log.parent) or said
        return f"{self.name} {how_it_ended(code)}{f' ({said[:LINE_CHARS_MAX]})' if said else ''}"
