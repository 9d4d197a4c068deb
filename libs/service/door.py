"""The door of a server: whoever comes in and says nothing goes again when others need the room."""

import asyncio
import resource

import structlog
from aiohttp import web

from libs.service.lifecycle import OPEN_FILES_WANTED

OF_OUR_OWN = 64  # files besides connections: stores, peers, logs

_log = structlog.get_logger()


def connections_max() -> int:
    """As many as this process can hand on, each of which takes two of its open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(OF_OUR_OWN, (OPEN_FILES_WANTED if soft == resource.RLIM_INFINITY else soft) // 2 - OF_OUR_OWN)


class Door:
    """Makes the protocol of each connection. With more than `most`, those that nobody waits for are cut off.

    Anybody can open thousands and send nothing, or half a request, or take no answer; the server would wait for them
    with every file the process may open, and nobody else could be let in, nor any store be reached.
    """

    def __init__(self, server: web.Server, most: int) -> None:
        self._server, self._most = server, most
        self._come_before_next_look = 0

    def __call__(self) -> asyncio.BaseProtocol:
        """For `create_server`."""
        self._come_before_next_look -= 1
        if self._come_before_next_look < 0:
            self._come_before_next_look = self._look()
        return self._server()

    def _look(self) -> int:
        """Make room if there is none; gives how many may come until the next look."""
        there = self._server.connections  # in the order they came
        room, wanted = self._most - len(there), self._most // 10 + 1
        if room > 0:
            return room
        leaving = [(rank, one) for one in there if (rank := _rank(one)) is not None]
        leaving.sort(key=lambda each: each[0])
        for _, one in leaving[: wanted - room]:
            transport = one.transport
            one.force_close()
            if transport:
                transport.abort()
        _log.warning("connections cut off to have room", cut=len(leaving[: wanted - room]), there=len(there))
        return wanted


def _rank(one: web.RequestHandler) -> int | None:
    """How early it goes, 0 first: whoever asks and takes what it asked for loses least. None: it stays."""
    if one.transport is None:
        return None
    if request := one._current_request:
        return None if request.content.is_eof() else 3  # its body is on its way, or is said to be
    if one._waiter is None or one.transport.get_write_buffer_size():
        return 2  # its answer is on its way
    if one._waiter.done():
        return None  # it has asked just now
    return 1 if one._request_count else 0
