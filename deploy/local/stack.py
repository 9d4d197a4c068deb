"""The whole system on one machine: both stores, migrations, every service. For `make run` and for tests."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType

from deploy.local.folders import Held, locked, make_folders, remove_runtime
from deploy.local.forks import can_fork, forking
from deploy.local.keys import load_or_make_keys, write_private
from deploy.local.launch import (
    READY_WITHIN_S,
    all_or_first_failure,
    not_in_time,
    run_migrations,
    start_stores,
    until_up,
)
from deploy.local.logtail import LogTail
from deploy.local.ports import Claims
from deploy.local.processes import Command, Spawn, spawn
from deploy.local.readiness import check_ready
from deploy.local.roster import (
    LOOPBACK,
    Ports,
    Service,
    choose_ports,
    own_environment,
    services,
    shared_environment,
    stop_stages,
    told_to,
)
from deploy.local.stores import Store
from deploy.local.supervisor import Supervised, Tell, nothing, unheard
from libs.service.settings import ConfigurationError, load_settings, reachable

DRAIN_MARGIN_S = 2
MIGRATE = (sys.executable, "-m", "libs.orders.migrate")


class Stack:
    """`async with Stack(folder) as stack`: inside the block everything is ready; afterwards everything is gone.

    `env` is laid over the process's environment. `roster` replaces the services (tests), `migrate` the command that
    prepares the database. With `durable=False` the stores may forget everything when they end. `tell` gets one line
    per incident.

    Raises:
        ConfigurationError: on entering; one clear line. Nothing is left running.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        env: Mapping[str, str] | None = None,
        roster: Sequence[Service] | None = None,
        migrate: Sequence[str] | None = MIGRATE,
        durable: bool = True,
        tell: Tell = unheard,
    ) -> None:
        self.data_dir = data_dir
        self.env: dict[str, str] = {**os.environ, **(env or {})}
        self.settings = load_settings(environ=self.env)
        self.roster = tuple(services(self.settings) if roster is None else roster)
        self.stores: dict[str, Store] = {}
        self.ports = Ports(0, 0, 0)
        self.admin_ports: dict[str, int] = {}
        self._migrate = migrate
        self._durable = durable
        self._tell = tell
        self._kept: dict[str, Supervised] = {}
        self._spawn: Spawn = spawn
        self._in_a_hurry = False

    @property
    def base_url(self) -> str:
        """The one origin clients need."""
        return self.settings.origin(self.ports.gateway)

    @property
    def redis_url(self) -> str:
        return self.stores["redis"].url

    @property
    def database_url(self) -> str:
        return self.stores["postgres"].url

    @property
    def pids(self) -> dict[str, int]:
        """Process id by name (`redis`, `postgres`, `router`, `router-2`, …) of what runs now."""
        found = {name: kept.process for name, kept in self._kept.items()}
        return {name: process.pid for name, process in found.items() if process and process.running}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each process was started again."""
        return {name: kept.restarts for name, kept in self._kept.items()}

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process; it is started again if it ends of it."""
        await self._kept[name].kill(number)

    async def stop(self, name: str) -> None:
        """End one process and keep it down until `start`."""
        await self._kept[name].stop(self.settings.drain_s + DRAIN_MARGIN_S)

    async def start(self, name: str) -> None:
        """Begin to keep one process running again, and wait until it is ready."""
        self._kept[name].start()
        await self.until_ready(name)

    async def until_ready(self, *names: str) -> None:
        """Wait until the named processes (all, if none is named) are ready at once.

        Raises:
            ConfigurationError: one of them cannot start, or not in time.
        """
        waited = [self._kept[name] for name in names or self._kept]
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await all_or_first_failure(*(one.until_ready() for one in waited))
        except TimeoutError:
            raise not_in_time([one for one in waited if not one.ready.is_set()], self.folders.logs) from None

    def hurry(self) -> None:
        """Do not let services finish what they have in hand."""
        self._in_a_hurry = True
        for kept in self._kept.values():
            if not kept.must_start and kept.process:
                kept.process.signal(signal.SIGKILL)

    async def __aenter__(self) -> "Stack":
        try:
            async with AsyncExitStack() as undo:
                await self._start(undo)
                self._undo = undo.pop_all()
        except OSError as error:  # files of somebody else, a disk that is full
            raise ConfigurationError(
                f"cannot use {error.filename or self.data_dir}: {error.strerror or error}"
            ) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._undo.aclose()

    async def _start(self, undo: AsyncExitStack) -> None:
        folders = self.folders = make_folders(self.data_dir)
        try:
            undo.enter_context(locked(folders.lock))
        except Held:
            raise ConfigurationError(f"another stack already runs on {folders.data}: end it, or set DATA_DIR") from None
        undo.callback(remove_runtime, folders)
        claimed = undo.enter_context(Claims())
        self.ports = choose_ports(self.settings, self.env, claimed)
        keys = load_or_make_keys(folders.keys, self.env)
        if any(map(can_fork, (*(service.command for service in self.roster), self._migrate or ()))):
            told = told_to("fork-server", self.env)
            self._spawn = (await undo.enter_async_context(forking(folders.log("fork-server"), told))).spawn
        self.stores, kept = await start_stores(self.env, folders, undo, self._tell, durable=self._durable)
        self._kept = {one.name: one for one in kept}
        urls = {"REDIS_URL": self.redis_url, "DATABASE_URL": self.database_url}
        self.env = shared_environment(self.env, self.ports, folders.data, urls, keys)
        if self._migrate:
            told = told_to("migrate", self.env)
            await run_migrations(self._migrate, folders, told, self._spawn, self._tell)
        undo.push_async_callback(self._stop_services)
        self._start_services(claimed, undo)
        await until_up(list(self._kept.values()), self._tell, folders.logs)
        self._announce(undo)

    def _start_services(self, claimed: Claims, undo: AsyncExitStack) -> None:
        tail = LogTail(self._tell)
        for store in self._kept.values():
            tail.follow(store.command.log)  # for its size: it is no JSON
        undo.callback(asyncio.create_task(tail.run(), name="follow logs").cancel)
        admin_host = self.settings.admin_host
        for service in self.roster:
            # Only the gateway listens where other machines may reach it.
            host = self.settings.host if service.name == "gateway" else LOOPBACK
            for name in service.names:
                port = self.admin_ports[name] = claimed.free(admin_host)
                env = own_environment(self.env, name, host, port)
                command = Command(name, service.command, self.folders.log(name), env, nice=service.nice)
                tail.follow(command.log)
                check = partial(check_ready, reachable(admin_host), port)
                self._kept[name] = Supervised(command, check, self._tell, spawn=self._spawn)
                self._kept[name].start()

    async def _stop_services(self) -> None:
        for names in stop_stages(self.roster):
            drain_s = 0 if self._in_a_hurry else self.settings.drain_s + DRAIN_MARGIN_S
            await asyncio.gather(*(self._kept[name].stop(drain_s) for name in names if name in self._kept))

    def _announce(self, undo: AsyncExitStack) -> None:
        """Leave the file by which others find the stack, and keep it true."""
        undo.callback(self.folders.stack.unlink, missing_ok=True)
        self._write_state()
        for kept in self._kept.values():
            kept.changed = self._write_state
        undo.callback(self._leave_state_alone)

    def _leave_state_alone(self) -> None:
        for kept in self._kept.values():
            kept.changed = nothing

    def _write_state(self) -> None:
        state = {
            "base_url": self.base_url,
            "redis_url": self.redis_url,
            "database_url": self.database_url,
            "partitions": self.settings.partitions,
            "redis_memory_mb": self.settings.redis_memory_mb,
            "ports": vars(self.ports),
            "admin_ports": self.admin_ports,
            "pids": self.pids,
            "supervisor": os.getpid(),
        }
        with suppress(OSError):  # a full disk must not end what still works
            write_private(self.folders.stack, json.dumps(state, indent=2) + "\n")
