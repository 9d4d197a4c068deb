"""TCP ports of this machine."""

import secrets
import socket

# Below the range the kernel takes for outgoing connections, so that none of those lands on a port we promised.
FREE_FROM, FREE_TO = 20_000, 32_000
TRIES_MAX = 1_000


def is_free(host: str, port: int) -> bool:
    """Whether somebody could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str, taken: set[int]) -> int:
    """A port nobody listens on and that is not in `taken`; it is added there."""
    for _ in range(TRIES_MAX):
        port = FREE_FROM + secrets.randbelow(FREE_TO - FREE_FROM)
        if port not in taken and is_free(host, port):
            taken.add(port)
            return port
    raise RuntimeError(f"no free port on {host} after {TRIES_MAX} tries")
