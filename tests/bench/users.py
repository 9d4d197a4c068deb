"""Users who post orders, and the requests each will send, prepared. Speaks only the API every implementation has."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from secrets import token_hex
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson

from tests.bench.client import Answer, connect, request_bytes

# Both directions of every pair, so that the pools stay where they are however many orders there are.
TRADES = (
    ("SOL", "USDC", 10),
    ("USDC", "SOL", 1500),
    ("SOL", "USDT", 2.5),
    ("USDT", "USDC", 250),
    ("USDC", "USDT", 250),
    ("USDT", "SOL", 375),
    ("JUP", "USDC", 120),
    ("USDC", "JUP", 100),
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


class Request(NamedTuple):
    """Prepared bytes that place so many orders of one of the users."""

    data: bytes
    owner: int
    orders: int = 1


@dataclass(frozen=True)
class Crowd:
    """The users of a run."""

    place: Place
    users: list[User]
    _batches: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def requests(self, orders: int, size: int = 1) -> list[Request]:
        """Requests for so many orders, `size` in each: users in turn, each with every trade in turn."""
        if size == 1:
            turns = islice(cycle(range(len(self.users) * len(TRADES))), orders)
            return [self._single(turn % len(self.users), turn // len(self.users)) for turn in turns]
        return [
            Request(self._batch(number % len(self.users), count), number % len(self.users), count)
            for number, count in enumerate(sizes(orders, size))
        ]

    def _single(self, owner: int, turn: int) -> Request:
        return Request(self.users[owner].orders[turn % len(TRADES)], owner)

    def _batch(self, owner: int, size: int) -> bytes:
        if (owner, size) not in self._batches:
            orders = [order_body(*trade) for trade in islice(cycle(TRADES), size)]
            body, token = orjson.dumps({"orders": orders}), self.users[owner].token
            made = request_bytes(self.place.header, "POST", "/api/orders/batch", body, token)
            self._batches[owner, size] = made
        return self._batches[owner, size]


def sizes(orders: int, size: int) -> Iterator[int]:
    """How many orders each request carries: all full, but perhaps the last."""
    whole, rest = divmod(orders, size)
    yield from [size] * whole
    if rest:
        yield rest


async def gathered(base_url: str, count: int) -> Crowd:
    """New users.

    Raises:
        NotSignedUp: the stack refuses one.
        OSError: nobody listens.
    """
    place = place_of(base_url)
    return Crowd(place, await sign_up(place, count))


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


def order_body(sold: str, bought: str, amount: float) -> dict[str, object]:
    return {"tokenIn": sold, "tokenOut": bought, "amount": amount}


def _user(place: Place, answer: Answer) -> User:
    if answer.status != 201:
        raise NotSignedUp(f"HTTP {answer.status}: {answer.body[:200]!r}")
    token = orjson.loads(answer.body)["token"]
    orders = (orjson.dumps(order_body(*trade)) for trade in TRADES)
    return User(token, tuple(request_bytes(place.header, "POST", "/api/orders", body, token) for body in orders))
