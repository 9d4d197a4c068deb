"""A gateway for tests: the real application on a real port, over parts the test chooses."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
import pytest
import uvloop
from aiohttp import ClientSession, TCPConnector

from libs.events.envelope import Envelope
from libs.events.ids import Position
from libs.events.log import EventLog
from libs.events.memory_log import MemoryLog
from libs.events.order import Order
from libs.orders.listed import Listed
from libs.orders.views import OrderViews, Store
from libs.quoting.venue import Venue
from libs.service.health import Health, serve
from libs.service.shared import Rate, Shared
from libs.service.tokens import issue_token
from services.gateway.accounts import Accounts
from services.gateway.app import make_app
from services.gateway.auth import Passwords
from services.gateway.callers import Callers
from services.gateway.credentials import Credentials
from services.gateway.overload import Overload
from services.gateway.parts import Parts
from services.gateway.quotes import Quotes
from services.gateway.rates import Rates
from services.gateway.tunnel import Tunnels
from tests.builders import as_one

PARTITIONS = 4
SECRET = "a secret that is long enough for HS256"
OLD_SECRET = "the secret that signed before this one"
RATE = Rate(1_000, 60)
ORDER = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": 10}

Run = Callable[[Coroutine[Any, Any, None]], None]
both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


class NothingProjected:
    """A projection that lags for ever: what clients see must come from the log."""

    async def get(self, order_id: str) -> Order | None:
        return None

    async def by_client_id(self, user: str, client_id: str) -> Order | None:
        return None

    async def get_many(self, order_ids: Sequence[str]) -> dict[str, Order]:
        return {}

    async def newest(self, user: str, before: str | None, limit: int) -> list[Listed]:
        return []

    async def history(self, order_id: str) -> list[tuple[Envelope, Position]]:
        return []


@dataclass(frozen=True)
class Answer:
    """What came back. `body` is the JSON document, or None when there is none."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> str | None:
        """The problem's code, after checking that the document is whole."""
        if self.status < 400:
            return None
        assert self.headers["Content-Type"] == "application/problem+json", self
        problem = self.body
        assert {"type", "title", "status", "detail", "instance", "code", "requestId", "retryable", "errors"} <= {
            *problem
        }
        assert problem["status"] == self.status
        assert problem["requestId"] == self.headers["X-Request-Id"]
        assert problem["retryable"] == ("Retry-After" in self.headers)
        # Of an order without a key nobody may ask again unseen.
        assert problem["retryable"] == (self.status in {408, 429, 503}) or "another order" in problem["detail"]
        return str(problem["code"])


class Client:
    """One user's view of a gateway."""

    def __init__(self, session: ClientSession, url: str, user: str) -> None:
        self.session, self.url, self.user = session, url, user
        self.token = issue_token(user, SECRET)

    def other(self, user: str) -> "Client":
        return Client(self.session, self.url, user)

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Send `body` (bytes as they are, anything else as JSON). Underscores in header names stand for dashes."""
        sent = {"Authorization": f"Bearer {self.token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        sent = {name: value for name, value in sent.items() if value}
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(method, self.url + path, data=data, headers=sent) as response:
            raw = await response.read()
            return Answer(response.status, response.headers, orjson.loads(raw) if raw else None)

    async def post(self, body: object = ORDER, path: str = "/api/orders", **headers: str) -> Answer:
        return await self.ask("POST", path, body, **headers)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, **headers)


@asynccontextmanager
async def gateway(
    *,
    log: EventLog | None = None,
    store: Store | None = None,
    accounts: Accounts | None = None,
    tunnels: Tunnels | None = None,
    log_open: bool = True,
    overload: Overload | None = None,
    health: Health | None = None,
    shared: Shared | None = None,
    rate: Rate = RATE,
    cors_origins: frozenset[str] = frozenset(),
    proxies: int = 0,
    venues: Sequence[Venue] = (),
    open_orders_max: int = 10_000,
) -> AsyncIterator[Client]:
    """Serve while the block runs; gives a client with a valid token of user-1."""
    log = log or MemoryLog(PARTITIONS)
    opened = asyncio.Event()
    if log_open:
        opened.set()
    passwords = Passwords(rounds=4)
    credentials = Credentials(cast("Accounts", accounts), timedelta(days=1))
    store = store or NothingProjected()
    parts = Parts(
        log=log,
        reads=log,
        log_open=opened,
        overload=overload or Overload(MemoryLog(1), wait_s_max=1, memory_max_bytes=1),
        views=OrderViews(log, store),
        accounts=cast("Accounts", accounts),
        credentials=credentials,
        callers=Callers(credentials, (SECRET, OLD_SECRET)),
        rates=Rates(shared, reads=rate, writes=rate),
        shared=cast("Shared", shared),
        passwords=passwords,
        quotes=Quotes(as_one(*venues), (SECRET, OLD_SECRET), lambda: datetime.now(UTC)),
        tunnels=Tunnels("http://127.0.0.1:9") if tunnels is None else tunnels,
        secret=SECRET,
        token_lifetime=timedelta(minutes=15),
        slippage_bps=50,
        order_lifetime=timedelta(minutes=10),
        open_orders_max=open_orders_max,
        cors_origins=cors_origins,
        proxies=proxies,
    )
    app = make_app(parts, health or Health())
    # Unlimited: a test may hold many connections open at once.
    async with (
        serve(app, "127.0.0.1", 0, drain_s=5) as port,
        ClientSession(connector=TCPConnector(limit=0)) as session,
    ):
        yield Client(session, f"http://127.0.0.1:{port}", "user-1")
    passwords.close()
