"""Where the stack keeps its files, and the locks that keep two stacks apart."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from libs.service.settings import ConfigurationError

# A unix socket's path holds 107 bytes on Linux and 103 elsewhere; a checkout may lie deeper than that.
RUNTIME_PARENT = Path("/tmp")  # noqa: S108 - the folder is checked to be ours
LOCK_RETRY_S = 0.05


@dataclass(frozen=True)
class Folders:
    """The data folder (survives a restart) and the runtime folder (sockets, gone with the stack)."""

    data: Path
    run: Path

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def keys(self) -> Path:
        return self.data / "secrets.json"

    @property
    def stack(self) -> Path:
        return self.data / "stack.json"

    @property
    def lock(self) -> Path:
        return self.data / "lock"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def socket_folder(self, store: str) -> Path:
        """A folder only we can enter; whoever serves in it may be made its owner."""
        path = self.run / store
        path.mkdir(mode=0o700, exist_ok=True)
        return path


def make_folders(data_dir: Path) -> Folders:
    """Create what is missing.

    Raises:
        ConfigurationError: a folder cannot be made, or somebody else's is in its place.
    """
    data = data_dir.expanduser().resolve()
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    folders = Folders(data, RUNTIME_PARENT / f"swaplog-{os.getuid()}-{digest}")
    try:
        data.mkdir(mode=0o711, parents=True, exist_ok=True)
        folders.logs.mkdir(mode=0o700, exist_ok=True)
        folders.run.mkdir(mode=0o711, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make {error.filename}: {error.strerror}") from None
    seen = folders.run.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o022:
        raise ConfigurationError(f"{folders.run} belongs to somebody else: remove it, or use another DATA_DIR")
    folders.run.chmod(0o711)  # whatever our umask: a server that runs as somebody else has its socket in there
    return folders


def remove_runtime(folders: Folders) -> None:
    """Take the sockets away; nothing in there is needed after a stop."""
    shutil.rmtree(folders.run, ignore_errors=True)


class Held(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, *, folder: bool = False) -> Iterator[int]:
    """Hold a lock file, or a whole `folder`, while the block runs; gives its descriptor.

    Raises:
        Held: another process holds it.
    """
    descriptor = _lock(path, folder=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@asynccontextmanager
async def locked_for_child(path: Path, within_s: float, refusal: str, *, folder: bool = False) -> AsyncIterator[int]:
    """A lock that a server process inherits and so holds until it is gone, whoever started it.

    Two servers on one folder would destroy its files; one of a killed stack may still be writing its last ones.

    Raises:
        ConfigurationError: it is still held after `within_s` seconds; the text is `refusal`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        try:
            descriptor = _lock(path, folder=folder)
            break
        except Held:
            if loop.time() > deadline:
                raise ConfigurationError(refusal) from None
            await asyncio.sleep(LOCK_RETRY_S)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(path: Path, *, folder: bool) -> int:
    how = os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, how | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Held from None
    return descriptor
