"""TCP ports of this machine."""

import secrets
import socket
import sys
from types import TracebackType

# Below the range the kernel takes for outgoing connections, so that none of those lands on a port we promised.
FREE_FROM, FREE_TO = 20_000, 32_000
TRIES_MAX = 1_000

# Elsewhere a server cannot listen where another socket is bound, so nothing may be held for it.
CAN_HOLD = sys.platform == "linux"


def trouble_at(host: str, port: int) -> OSError | None:
    """Why nothing can listen there now; None: it can. Port 0: anywhere on `host`."""
    try:
        with _socket(host) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error
    return None


class Claims:
    """Ports promised to processes that do not listen yet: no other process that looks for a free port is given them.

    Each is held by a socket that is bound and does not listen. It admits those who allow a second one, as servers do
    (SO_REUSEADDR), and nobody who looks does. They end with the process, however it ends.
    """

    def __init__(self) -> None:
        self._ports: set[int] = set()
        self._holding: list[socket.socket] = []

    def __contains__(self, port: int) -> bool:
        return port in self._ports

    def add(self, port: int) -> None:
        """One that was asked for."""
        self._ports.add(port)

    def free(self, host: str) -> int:
        """Claim a port that nothing listens on and nobody has claimed."""
        for _ in range(TRIES_MAX):
            port = FREE_FROM + secrets.randbelow(FREE_TO - FREE_FROM)
            if port not in self._ports and self._held(host, port):
                self._ports.add(port)
                return port
        raise RuntimeError(f"no free port on {host} after {TRIES_MAX} tries")

    def _held(self, host: str, port: int) -> bool:
        holding = _socket(host)
        if not _bound(holding, host, port):
            holding.close()
            return False
        if CAN_HOLD:
            holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._holding.append(holding)
        else:
            holding.close()
        return True

    def __enter__(self) -> "Claims":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for holding in self._holding:
            holding.close()


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)


def _bound(probe: socket.socket, host: str, port: int) -> bool:
    try:
        probe.bind((host, port))
    except OSError:
        return False
    return True
