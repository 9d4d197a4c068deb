"""Which processes a stack has, with which environment each is started, and in which order they end."""

import errno
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from deploy.local.ports import Claims, trouble_at
from libs.service.settings import ConfigurationError, Settings

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Service:
    """One service; `command` is without the environment, `instances` run beside each other, `nice`: see `Command`."""

    name: str
    command: tuple[str, ...]
    instances: int = 1
    nice: int = 0

    @property
    def names(self) -> list[str]:
        """Names of its processes: `router`, `router-2`, …"""
        return [self.name, *(f"{self.name}-{number}" for number in range(2, self.instances + 1))]


@dataclass(frozen=True)
class Ports:
    """The three ports other processes or people connect to."""

    gateway: int
    notifier: int
    localnet: int


# What is stopped together: first nothing new comes in, then what is left is archived, and the world outside ends last.
STOP_STAGES = {"gateway": 0, "notifier": 1, "router": 1, "executor": 1, "projector": 2, "localnet": 3}
STOP_ORDER = tuple(STOP_STAGES)
# Where cores are short, processes go first that a client waits for with an open request; nobody waits for the archive.
NICE = {"router": 5, "executor": 5, "localnet": 5, "projector": 10}

# Nobody else is told a secret: who breaks into the gateway must not find the wallet, and a server that runs as nobody
# shows its environment to whoever else does. The address of a store may hold a password.
_TOLD = {
    "REDIS_URL": {"gateway", "notifier", "router", "executor", "projector"},
    "DATABASE_URL": {"migrate", "gateway", "notifier", "projector"},
    "JWT_SECRET": {"gateway", "notifier"},
    "JWT_SECRETS_OLD": {"gateway", "notifier"},
    "WALLET_SECRET": {"executor"},
}


def told_to(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without the secrets a process of this name (`redis`, `router-2`, …) has no need of."""
    service = name.partition("-")[0]
    return {variable: value for variable, value in environ.items() if service in _TOLD.get(variable, {service})}


def services(settings: Settings) -> tuple[Service, ...]:
    """The whole system, in the order of `STOP_ORDER`."""
    instances = {"gateway": settings.gateways, "router": settings.routers, "executor": settings.executors}
    return tuple(
        Service(name, (sys.executable, "-m", f"services.{name}"), instances.get(name, 1), NICE.get(name, 0))
        for name in STOP_ORDER
    )


def stop_stages(roster: Iterable[Service]) -> list[list[str]]:
    """Names of the processes by stage, in the order in which they are stopped."""

    def stage(service: Service) -> int:
        return STOP_STAGES.get(service.name, 0)

    return [
        [name for service in together for name in service.names]
        for _, together in groupby(sorted(roster, key=stage), key=stage)
    ]


def choose_ports(settings: Settings, environ: Mapping[str, str], claimed: Claims) -> Ports:
    """The ports asked for; a port 0, or a taken one nobody asked for by name, becomes any free one.

    Raises:
        ConfigurationError: a port that was asked for is taken, the gateway's always counts as asked for; or the host is
            not one of this machine's.
    """
    for variable, address in (("HOST", settings.host), ("ADMIN_HOST", settings.admin_host)):
        if trouble := trouble_at(address, 0):
            raise ConfigurationError(f"{variable} is not usable: cannot listen on {address}: {trouble.strerror}")

    def choose(variable: str, host: str, port: int, *, wanted: bool) -> int:
        trouble = OSError(errno.EADDRINUSE, "") if port in claimed else trouble_at(host, port)
        if port and not trouble:
            claimed.add(port)
            return port
        if port and wanted and trouble:
            taken = trouble.errno == errno.EADDRINUSE
            what = "is taken: end what listens there" if taken else f"cannot be used: {trouble.strerror}"
            raise ConfigurationError(f"port {port} {what}, or set {variable} to another")
        return claimed.free(host)

    return Ports(
        gateway=choose("PORT", settings.host, settings.port, wanted=True),
        notifier=choose("NOTIFIER_PORT", LOOPBACK, settings.notifier_port, wanted=bool(environ.get("NOTIFIER_PORT"))),
        localnet=choose("LOCALNET_PORT", LOOPBACK, settings.localnet_port, wanted=bool(environ.get("LOCALNET_PORT"))),
    )


def shared_environment(
    environ: Mapping[str, str], ports: Ports, data: Path, urls: Mapping[str, str], keys: Mapping[str, str]
) -> dict[str, str]:
    """What all services of the stack see; what the environment says about the world outside wins."""
    default = Settings.model_fields
    here = f"{LOOPBACK}:{ports.localnet}"
    outside = {
        "CHAIN_RPC_URL": f"http://{here}",
        "VENUES": str(default["venues"].default).replace(f"{LOOPBACK}:{default['localnet_port'].default}", here),
        "NOTIFIER_URL": f"http://{LOOPBACK}:{ports.notifier}",
    }
    given = {name: environ[name] for name in outside if environ.get(name)}
    numbers = {"PORT": ports.gateway, "NOTIFIER_PORT": ports.notifier, "LOCALNET_PORT": ports.localnet}
    return {
        "LOG_FORMAT": "json",
        **environ,
        **outside,
        **given,
        **{name: str(port) for name, port in numbers.items()},
        **urls,
        **keys,
        "DATA_DIR": str(data),
        "PYTHONUNBUFFERED": "1",
    }


def own_environment(shared: Mapping[str, str], name: str, host: str, admin_port: int) -> dict[str, str]:
    """What one process sees.

    A restarted worker keeps its name, so it finds what it had in hand at once instead of waiting until it may claim.
    """
    return {
        **told_to(name, shared),
        "HOST": host,
        "ADMIN_PORT": str(admin_port),
        "CONSUMER": f"{name}@{socket.gethostname()}:{shared['DATA_DIR']}",
    }
