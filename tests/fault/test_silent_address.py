"""Redis by a name of several addresses, of which the first is a machine that is gone: nothing comes back from there."""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from libs.events.redis_log import open_redis_log
from libs.service.shared import Rate, open_shared
from tests.fault.own_redis import server
from tests.fault.proxy import proxy

NAME, GONE, THERE = "redis.of.several.addresses", "127.0.0.2", "127.0.0.1"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere loopback is one address")


@contextmanager
def nothing_comes_back_from(port: int) -> Iterator[None]:
    """As long as its queue is full, Linux drops whoever knocks."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((GONE, port))
        listening.listen(0)
        for _ in range(4):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            with suppress(BlockingIOError):
                knocking.connect((GONE, port))
        yield


async def test_the_others_are_tried_while_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    known = socket.getaddrinfo

    def of_two(host: str, *asked: Any, **more: Any) -> Any:
        return (
            [one for at in (GONE, THERE) for one in known(at, *asked, **more)]
            if host == NAME
            else known(host, *asked, **more)
        )

    monkeypatch.setattr(socket, "getaddrinfo", of_two)
    async with server(()) as redis, proxy(lambda: redis.url) as way:
        url = f"redis://{NAME}:{way.port}"
        with nothing_comes_back_from(way.port):
            async with open_redis_log(url, 1) as log, open_shared(url) as shared:
                await log.start(create=True)
                assert (await log.tip(0)).position == 0
                assert (await shared.spend("reads", Rate(1, 60))).allowed
