"""Users who post orders, and the requests each will send, prepared."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from secrets import token_hex
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson

from tests.bench.client import Answer, connect, request_bytes
from tests.bench.watch import End, Watch, open_sockets

# Both directions of every pair, so that the pools stay where they are however many orders there are.
TRADES = (
    ("SOL", "USDC", "10"),
    ("USDC", "SOL", "1500"),
    ("SOL", "USDT", "2.5"),
    ("USDT", "USDC", "250"),
    ("USDC", "USDT", "250"),
    ("USDT", "SOL", "375"),
    ("JUP", "USDC", "120"),
    ("USDC", "JUP", "100"),
)
SIGNUPS_AT_ONCE = 8


class NotSignedUp(Exception):
    """The stack refuses users; the text is its answer."""


class User(NamedTuple):
    """One user; `orders` are whole HTTP requests."""

    token: str
    orders: tuple[bytes, ...]


class Place(NamedTuple):
    """Where the gateway listens."""

    host: str
    port: int

    @property
    def header(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Crowd:
    """The users of a run, and what their sockets see."""

    place: Place
    users: list[User]
    watch: Watch

    def ends_of(self, order_ids: Iterable[str]) -> dict[str, End]:
        """How those of the orders ended that have."""
        return {order_id: self.watch.ends[order_id] for order_id in order_ids if order_id in self.watch.ends}


@asynccontextmanager
async def gathered(base_url: str, count: int) -> AsyncIterator[Crowd]:
    """New users, each with a WebSocket over all of their orders, while the block runs.

    Raises:
        NotSignedUp, WatchLost: the stack refuses one.
        OSError: nobody listens.
    """
    place, watch = place_of(base_url), Watch()
    users = await sign_up(place, count)
    sockets = await open_sockets(watch, *place, [user.token for user in users])
    try:
        yield Crowd(place, users, watch)
    finally:
        for socket in sockets:
            socket.close()


def place_of(base_url: str) -> Place:
    parts = urlsplit(base_url)
    return Place(parts.hostname or "", parts.port or 80)


async def sign_up(place: Place, count: int) -> list[User]:
    """`count` new users. Slow on purpose at the other end: a password's hash costs a quarter of a second.

    Raises:
        NotSignedUp: one was refused.
        OSError: nobody listens.
    """
    stamp, room = token_hex(6), asyncio.Semaphore(SIGNUPS_AT_ONCE)

    async def one(number: int) -> User:
        body = orjson.dumps({"email": f"bench-{stamp}-{number}@example.org", "password": token_hex(16)})
        async with room:
            connection = await connect(*place)
            answer = await connection.ask(request_bytes(place.header, "POST", "/api/auth/signup", body))
            connection.close()
        return _user(place, answer)

    return list(await asyncio.gather(*map(one, range(count))))


def _user(place: Place, answer: Answer) -> User:
    if answer.status != 201:
        raise NotSignedUp(f"HTTP {answer.status}: {answer.body[:200]!r}")
    token = orjson.loads(answer.body)["token"]
    return User(token, tuple(_order(place, token, *trade) for trade in TRADES))


def _order(place: Place, token: str, sold: str, bought: str, amount: str) -> bytes:
    body = orjson.dumps({"tokenIn": sold, "tokenOut": bought, "amount": amount})
    return request_bytes(place.header, "POST", "/api/orders", body, token)


def orders_of(users: list[User], count: int) -> list[bytes]:
    """`count` requests: users in turn, and trades so that every user makes all of them."""
    turns = islice(cycle(range(len(users) * len(TRADES))), count)
    return [users[turn % len(users)].orders[(turn // len(users)) % len(TRADES)] for turn in turns]
