"""The process services are forked from, with what all of them import: `python -m deploy.local.fork_server FD`.

Six interpreters that each import the same libraries take most of a start's time, and of a restart's. FD is one end of a
SOCK_SEQPACKET pair. In comes a JSON object per process to start: `module`, `log`, `env`; out go `{"started": pid}` in
the same order and `{"ended": pid, "code": code}`, negative for a signal. The other end closed: this process ends, and
the kernel kills what it started.
"""

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from setproctitle import getproctitle, setproctitle

from deploy.local.death import die_with_parent

# What most services need; each imports the rest by itself. No module of theirs does anything when it is imported.
SHARED = (
    "aiohttp.web",
    "libs.events.opening",
    "libs.events.redis_log",
    "libs.events.worker",
    "libs.orders.migrate",
    "libs.orders.store",
    "libs.quoting.venues",
    "libs.service.health",
    "libs.service.http",
    "libs.service.lifecycle",
    "libs.service.tokens",
)
REQUEST_BYTES_MAX = 1 << 17  # a longer one would be cut off


def main() -> None:
    """Import, then start what is asked for, until nobody asks any more."""
    asker = socket.socket(fileno=int(sys.argv[1]))
    gc.disable()
    for module in SHARED:
        import_module(module)
    getproctitle()  # finds the place of the title, which cannot be found any more once the environment is another
    gc.freeze()  # a collector that walks these would copy every page of them in every child
    _become(_serve(asker))


def _serve(asker: socket.socket) -> dict[str, Any]:
    """Returns in a child only, with what it is to become."""
    woken, wakes = socket.socketpair()
    for one in (woken, wakes):
        one.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    with selectors.DefaultSelector() as ready:
        ready.register(asker, selectors.EVENT_READ)
        ready.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is woken:
                    woken.recv(REQUEST_BYTES_MAX)
                    _tell_ended(asker)
                    continue
                asked = asker.recv(REQUEST_BYTES_MAX)
                if not asked:
                    sys.exit()
                parent = os.getpid()
                if pid := os.fork():
                    _lead_group(pid)
                    _tell(asker, {"started": pid})
                    continue
                _lead_group(0)
                die_with_parent(parent, signal.SIGKILL)
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for one in (woken, wakes, asker):
                    one.close()
                return dict(json.loads(asked))


def _lead_group(pid: int) -> None:
    """Done by both, so that it is done before either goes on: signals are sent to the group."""
    with suppress(OSError):
        os.setpgid(pid, pid)


def _tell_ended(asker: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _tell(asker, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _tell(asker: socket.socket, what: dict[str, int]) -> None:
    try:
        asker.send(json.dumps(what).encode())
    except OSError:
        sys.exit()  # nobody asks any more


def _become(what: dict[str, Any]) -> NoReturn:
    """Run a module as `python -m` would."""
    log = os.open(what["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, theirs in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(ours, theirs)
    for ours in (nothing, log):
        os.close(ours)
    os.environ.clear()
    os.environ.update(what["env"])
    time.tzset()
    setproctitle(f"{sys.executable} -m {what['module']}")
    gc.enable()
    sys.modules.pop(what["module"], None)  # by itself it would not be there yet: runpy warns of it in the log
    runpy.run_module(what["module"], run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    main()
