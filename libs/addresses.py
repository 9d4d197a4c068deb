"""Connecting to a name that stands for several addresses, one of which may be silent."""

import asyncio
import socket
from contextlib import suppress

from redis.asyncio import Connection


class EachAddress(Connection):
    """A connection to Redis, whose limit is shared by the addresses of its name: uvloop would wait for the first one.

    Without TLS, where the server has to prove that it is who the name says.
    """

    async def _connect(self) -> None:
        name, limit_s = self.host, self.socket_connect_timeout or 0
        found = await asyncio.get_running_loop().getaddrinfo(name, self.port, type=socket.SOCK_STREAM)
        *others, last = dict.fromkeys(str(address[0]) for *_, address in found)
        self.socket_connect_timeout = limit_s / (len(others) + 1)
        try:
            for self.host in others:
                with suppress(OSError):  # which a timeout is
                    await super()._connect()  # type: ignore[no-untyped-call]  # redis-py types no coroutine of its own
                    return
            self.host = last
            await super()._connect()  # type: ignore[no-untyped-call]  # as above
        finally:
            self.host, self.socket_connect_timeout = name, limit_s
