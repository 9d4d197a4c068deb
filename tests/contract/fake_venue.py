"""Scripted venues for the router's tests: Jupiter's quote API over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from libs.events.log import Snapshot
from libs.events.order import Order
from libs.events.retry import RetryPolicy
from libs.quoting.answer import Answer, NoQuote
from libs.quoting.venue import Venue
from libs.service.health import serve
from libs.service.http import open_session
from tests.builders import SOL, a_request

POOL = "8sLbNZoA1cfnvMJLPfp98ZLAnFSYCFApfJKMbiXNLwxj"
DEADLINE_MS = 10_000  # never met in a test that does not mean to
POLICY = RetryPolicy(attempts_max=3, base_ms=100, cap_ms=1_000)

Reply = Callable[[dict[str, Any]], Awaitable[web.Response] | web.Response]


def a_quote(question: dict[str, Any], out: int = 1_500_000_000, **changes: Any) -> dict[str, Any]:
    return {
        "inputMint": question["inputMint"],
        "inAmount": str(question["amount"]),
        "outputMint": question["outputMint"],
        "outAmount": str(out),
        "otherAmountThreshold": "0",
        "slippageBps": 50,
        "priceImpactPct": "0.000120",
        "swapMode": "ExactIn",
        "routePlan": [{"swapInfo": {"ammKey": POOL, "feeAmount": "25", "feeMint": SOL}, "percent": 100}],
        "networkFeeLamports": 5_000,
        "venueSpecific": {"kept": True},
        **changes,
    }


class FakeVenue:
    """Answers each question with `reply`; keeps what it was asked."""

    def __init__(self, reply: Reply | None = None, *, batches: bool = True) -> None:
        self.reply: Reply = reply or (lambda question: web.json_response(a_quote(question)))
        self.batches = batches
        self.singles: list[dict[str, Any]] = []
        self.lists: list[int] = []
        self.refused_lists = 0
        self.list_reply: Reply | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/quote", self._quote), web.post("/quotes", self._quotes)])
        return app

    async def _quote(self, request: web.Request) -> web.Response:
        self.singles.append(dict(request.query))
        await self.gate.wait()
        reply = self.reply(dict(request.query))
        return reply if isinstance(reply, web.Response) else await reply

    async def _quotes(self, request: web.Request) -> web.Response:
        if not self.batches:
            self.refused_lists += 1
            raise web.HTTPNotFound
        questions = (await request.json())["quotes"]
        self.lists.append(len(questions))
        if self.list_reply:
            reply = self.list_reply({"quotes": questions})
            return reply if isinstance(reply, web.Response) else await reply
        return web.json_response(
            {
                "quotes": [
                    {"error": "no pool", "errorCode": "COULD_NOT_FIND_ANY_ROUTE"}
                    if question["amount"] == "13"
                    else a_quote(question, int(question["amount"]) * 2)
                    for question in questions
                ]
            }
        )


class World:
    """Starts fake venues and clients of them; all gone after the test."""

    def __init__(self, stack: AsyncExitStack, session: aiohttp.ClientSession) -> None:
        self._stack, self._session = stack, session

    async def venue(self, fake: FakeVenue, name: str = "raydium", deadline_ms: int = DEADLINE_MS) -> Venue:
        port = await self._stack.enter_async_context(serve(fake.app(), "127.0.0.1", 0, drain_s=0))
        return await self.at(port, name, deadline_ms)

    async def at(self, port: int, name: str = "raydium", deadline_ms: int = DEADLINE_MS) -> Venue:
        venue = Venue(name, f"http://127.0.0.1:{port}", self._session, deadline_ms)
        return await self._stack.enter_async_context(aclosing(venue))


@asynccontextmanager
async def running_world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(stack, await stack.enter_async_context(open_session()))


def a_snapshot(**changes: object) -> Snapshot:
    _, requested = a_request(4)
    order = requested.order.model_copy(update=changes)
    return Snapshot(order, requested.event)


def an_order(**changes: object) -> Order:
    return a_snapshot(**changes).order


def answers(body: Any, status: int = 200) -> Reply:
    return lambda _question: web.json_response(body, status=status)


async def asked(venue: Venue, **changes: object) -> Answer:
    """For one order."""
    (answer,) = await venue.quote_many([an_order(**changes)])
    return answer


async def no_quote(venue: Venue) -> NoQuote:
    result = (await asked(venue)).result
    assert isinstance(result, NoQuote)
    return result
