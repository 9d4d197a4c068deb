"""Starting our own modules in processes forked from one that has imported what they share."""

import asyncio
import json
import os
import select
import socket
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from signal import SIGKILL

from deploy.local.fork_server import REQUEST_BYTES_MAX
from deploy.local.processes import Command, Process, opened, spawn

OURS = ("services.", "libs.")
START_WITHIN_S = 10
STOP_WITHIN_S = 5
TOLD_WITHIN_S = 10
MESSAGE_BYTES_MAX = 4_096


class _Forked:
    """One process of the fork server's."""

    def __init__(self, pid: int, give_up: Callable[[], None]) -> None:
        self.pid = pid
        self.ending: Future[int] = Future()
        self._give_up = give_up

    def wait(self) -> int:
        """Until the server tells of the end. A server that does not tell of an end there is would tell of none: it is
        given up.
        """
        try:
            return self.ending.result(TOLD_WITHIN_S if _until_ended(self.pid) else None)
        except TimeoutError:
            self._give_up()
            return self.ending.result()


def _until_ended(pid: int) -> bool:
    """Wait for the end as the kernel tells it; False where the kernel, or what this Python was built on, is too old."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (AttributeError, OSError):
        return False
    ended = select.poll()
    ended.register(descriptor, select.POLLIN)
    ended.poll()
    os.close(descriptor)
    return True


class Forks:
    """Starts commands: forked where that can be done, else as any other. Made by `forking`."""

    def __init__(self, ours: socket.socket, kill: Callable[[], None]) -> None:
        self._server, self._kill = ours, kill
        self._starting: deque[Future[_Forked]] = deque()
        self._running: dict[int, _Forked] = {}
        self._lock = threading.Lock()
        self._gone = False
        threading.Thread(target=self._listen, name="hear the fork server", daemon=True).start()

    def spawn(self, command: Command) -> Process:
        """See `processes.spawn`. Without its server, which may have been killed, everything is started anew."""
        if self._gone or not can_fork(command.argv) or command.user or command.cwd:
            return spawn(command)
        with opened(command.log) as log:
            start = log.tell()
        asked = json.dumps({"module": command.argv[2], "log": str(command.log), "env": dict(command.env)}).encode()
        if len(asked) > REQUEST_BYTES_MAX:
            return spawn(command)
        started: Future[_Forked] = Future()
        try:
            with self._lock:
                self._server.send(asked)
                self._starting.append(started)
            return Process(command, started.result(START_WITHIN_S), start)
        except TimeoutError:
            self._give_up()  # else it might still start a second one
            return spawn(command)
        except OSError:
            return spawn(command)

    def _give_up(self) -> None:
        """Killed, because one that is frozen does not hear that it should end, and what it started would go on."""
        self._kill()
        self.end()

    def end(self) -> None:
        """Have the server end, and with it whatever it started."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while said := self._hear():
            what = json.loads(said)
            if "started" in what:
                forked = self._running[what["started"]] = _Forked(what["started"], self._give_up)
                with self._lock:
                    self._starting.popleft().set_result(forked)
            else:
                self._running.pop(what["ended"]).ending.set_result(what["code"])
        self._gone = True
        for forked in self._running.values():
            forked.ending.set_result(-SIGKILL)  # the kernel kills them with their parent
        with self._lock:
            for started in self._starting:
                started.set_exception(OSError("the fork server is gone"))

    def _hear(self) -> bytes:
        try:
            return self._server.recv(MESSAGE_BYTES_MAX)
        except OSError:
            return b""


def can_fork(argv: Sequence[str]) -> bool:
    """A module of ours under this interpreter, where the kernel ends children with their parent."""
    ours = len(argv) == 3 and argv[:2] == (sys.executable, "-m") and argv[2].startswith(OURS)
    return ours and sys.platform == "linux"


@asynccontextmanager
async def forking(log: Path, environ: Mapping[str, str]) -> AsyncIterator[Forks]:
    """A fork server while the block runs. It imports meanwhile; what is started before it is done waits."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        argv = (sys.executable, "-m", "deploy.local.fork_server", str(theirs.fileno()))
        environ = {**environ, "PYTHONUNBUFFERED": "1"}  # read when an interpreter starts, and it starts for all of them
        server = spawn(Command("fork server", argv, log, environ, keep_fds=(theirs.fileno(),)))
        theirs.close()
        try:
            yield (forks := Forks(ours, partial(server.signal, SIGKILL)))
        finally:
            forks.end()
            await asyncio.shield(server.stop(STOP_WITHIN_S))
