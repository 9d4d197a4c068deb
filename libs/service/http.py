"""Asking other services over HTTP: keep-alive, and a deadline and a size limit on every answer. JSON in, JSON out."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

PEER_CONNECTIONS_MAX = 64  # per process
CONNECT_SECONDS_MAX = 5
IDLE_SECONDS_MAX = 30  # below what servers keep, so that a kept connection is seldom a dead one
ANSWER_BYTES_MAX = 8 * 1024 * 1024
# With these a peer answers a list for what is wrong with one of it, or with an answer that is not as long.
LIST_REFUSED = frozenset({200, 400, 413, 422})

_JSON = {"Content-Type": "application/json"}
_BUSY = frozenset({408, 425, 429})


class PeerTrouble(Exception):
    """The peer gave no usable answer; the text is one short phrase. Asking again later may help."""


class PeerUnavailable(PeerTrouble):
    """Not reached, too slow, or it said so itself (5xx, 429)."""


class PeerNonsense(PeerTrouble):
    """It answered, but not what its protocol says."""


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """One session per process: connections are kept and shared."""
    # None over all peers together: one that hangs would take those of the others.
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=PEER_CONNECTIONS_MAX, keepalive_timeout=IDLE_SECONDS_MAX)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS_MAX),  # `ask` bounds the whole
    ) as session:
        yield session


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    *,
    deadline_ms: int,
    params: Mapping[str, str] | None = None,
    body: Any = None,
    bytes_max: int = ANSWER_BYTES_MAX,
) -> tuple[int, Any]:
    """Status and parsed JSON of the answer; POST when there is a body, else GET. A 4xx without JSON gives None.

    The request must be safe to repeat: it is sent again once when a kept connection turns out to be closed.

    Raises:
        PeerUnavailable: not reached, no answer within the deadline, 5xx or 429.
        PeerNonsense: the answer is too long, or not JSON.
    """
    try:
        async with asyncio.timeout(deadline_ms / 1000):
            try:
                return await _ask_once(session, url, params, body, bytes_max)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                return await _ask_once(session, url, params, body, bytes_max)
    except TimeoutError:
        raise PeerUnavailable(f"no answer within {deadline_ms} ms") from None
    except aiohttp.ClientConnectorError as error:
        raise PeerUnavailable(f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}") from None
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError):
        raise PeerUnavailable("the connection was lost") from None
    except aiohttp.ClientError as error:
        raise PeerNonsense(f"not HTTP as expected ({type(error).__name__})") from None


async def _ask_once(
    session: aiohttp.ClientSession, url: str, params: Mapping[str, str] | None, body: Any, bytes_max: int
) -> tuple[int, Any]:
    data = None if body is None else orjson.dumps(body)
    async with session.request(
        "GET" if data is None else "POST",
        url,
        params=params,
        data=data,
        headers=_JSON if data is not None else None,
        allow_redirects=False,  # a peer is named in the settings; it does not send us elsewhere
    ) as response:
        if response.status >= 500 or response.status in _BUSY:
            raise PeerUnavailable(f"HTTP {response.status}")
        return response.status, _parsed(response.status, await _limited(response, bytes_max))


async def _limited(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > bytes_max:
            response.close()
            raise PeerNonsense(f"the answer is longer than {bytes_max} bytes")
    return bytes(raw)


def in_short(said: Any, chars_max: int) -> str:
    """What a peer said, as the beginning of a text for people."""
    try:
        return str(said)[:chars_max]
    except RecursionError:  # JSON is read deeper than it is shown
        return "something nested too deep to show"


def _parsed(status: int, raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        if status < 400:
            raise PeerNonsense("the answer is not JSON") from None
        return None
