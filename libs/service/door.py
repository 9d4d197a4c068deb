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
        there = self._server.connections
        room, wanted = self._most - len(there), self._most // 10 + 1
        if room > 0:
            return room
        leaving = sorted(filter(_may_go, there), key=_last_of_use)[: wanted - room]
        for one in leaving:
            transport = one.transport
            one.force_close()
            if transport:
                transport.abort()
        _log.warning("connections cut off to have room", cut=len(leaving), there=len(there))
        return wanted


def _may_go(one: web.RequestHandler) -> bool:
    """Whether nobody is known to wait at the other end. Whose body or answer is on its way is only said to."""
    if request := one._current_request:
        return not request.content.is_eof()
    asked_just_now = one._waiter is not None and one._waiter.done()
    return one.transport is not None and not asked_just_now


def _last_of_use(one: web.RequestHandler) -> tuple[bool, float]:
    """Whether it ever asked, and when it was last answered, else when it came."""
    return one._request_count > 0, one._next_keepalive_close_time
