"""A TCP proxy that misbehaves on demand, in Toxiproxy's words and one it lacks: a reply lost after its command ran."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

CHUNK_BYTES = 65_536
HELD_POLL_S = 0.02
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class Toxics:
    """What goes wrong now. Changes work on connections that stand, too.

    `latency_s` is added each way; `slice_bytes` cuts what is passed on into pieces of that size; `black_hole` keeps
    everything and says nothing; `half_open` lets requests through and keeps the replies; `down` refuses and resets;
    `lose_replies` resets that many connections when the reply to a request with `lose_reply_to` in it arrives.
    """

    latency_s: float = 0
    slice_bytes: int = 0
    black_hole: bool = False
    half_open: bool = False
    down: bool = False
    lose_replies: int = 0
    lose_reply_to: bytes = b""
    lost: int = 0

    def heal(self) -> None:
        """All quiet; `lost` keeps counting."""
        self.__dict__.update({**Toxics().__dict__, "lost": self.lost})


@dataclass(eq=False)
class _Link:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    doomed: bool = False

    def reset(self) -> None:
        for writer in (self.client, self.server):
            with suppress(OSError):
                raw = writer.get_extra_info("socket")
                if raw is not None and raw.family == socket.AF_INET:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()


@dataclass
class Proxy:
    """Listens on `port`; `target` gives the URL of what is behind, when somebody connects."""

    target: Callable[[], str]
    port: int = 0
    toxics: Toxics = field(default_factory=Toxics)
    connections: int = 0
    _links: set[_Link] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def reset_all(self) -> None:
        """RST on every connection that stands."""
        for link in list(self._links):
            link.reset()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its last."""
        self.connections += 1
        if task := asyncio.current_task():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self.toxics.down:
            writer.transport.abort()
            return
        try:
            upstream_reader, upstream = await _connect(self.target())
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, upstream)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(link, reader, upstream, replies=False))
                group.create_task(self._pump(link, upstream_reader, writer, replies=True))
        finally:
            self._links.discard(link)
            link.server.close()
            link.client.close()

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if not await self._let_through(link, data, replies=replies):
                    return
                await self._write(writer, data)
        with suppress(OSError):
            # Whoever stays silent in a half-open connection does not say goodbye either.
            if not (self.toxics.black_hole or self.toxics.half_open) and not writer.is_closing():
                writer.write_eof()

    async def _let_through(self, link: _Link, data: bytes, *, replies: bool) -> bool:
        toxics = self.toxics
        # Held until healed, then passed on: a command may run long after whoever sent it gave up.
        while toxics.black_hole or (toxics.half_open and replies):  # noqa: ASYNC110 - tests write the fields freely
            await asyncio.sleep(HELD_POLL_S)
        if toxics.down or (replies and link.doomed):
            link.reset()
            return False
        if not replies and toxics.lose_replies > 0 and toxics.lose_reply_to in data:
            toxics.lose_replies -= 1
            toxics.lost += 1
            link.doomed = True
        if toxics.latency_s:
            await asyncio.sleep(toxics.latency_s)
        return True

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        while data:
            size = self.toxics.slice_bytes or len(data)
            writer.write(data[:size])
            data = data[size:]
            await writer.drain()
            if data:
                await asyncio.sleep(0)

    async def end(self) -> None:
        """Cut everything."""
        self.reset_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def proxy(target: Callable[[], str]) -> AsyncIterator[Proxy]:
    """A proxy on a free port of this machine while the block runs."""
    made = Proxy(target)
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.end()


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To a store or service by its URL: `unix://path`, a Postgres URL with a socket folder, or host and port."""
    parts = urlsplit(url)
    folder = parse_qs(parts.query).get("host", [""])[0]
    if parts.scheme == "unix":
        return await asyncio.open_unix_connection(parts.path)
    if parts.scheme.startswith("postgres") and folder.startswith("/"):
        return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{parts.port or 5432}")
    default = {"redis": 6379, "postgresql": 5432, "postgres": 5432}.get(parts.scheme, 80)
    return await asyncio.open_connection(parts.hostname or "127.0.0.1", parts.port or default)
