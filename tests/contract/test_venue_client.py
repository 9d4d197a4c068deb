"""Whatever venues do, the router has an answer in time: over real sockets, with venues on their worst behaviour."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from libs.events.log import Snapshot
from libs.events.model import (
    AttemptFailed,
    OrderExpired,
    OrderFailed,
    Reason,
    RouteSelected,
    RoutingStarted,
)
from libs.events.order import Order
from libs.events.retry import RetryPolicy
from libs.service.health import serve
from libs.service.http import open_session
from services.router.domain import NoQuote, Quote
from services.router.handlers import Router
from services.router.venues import Venue
from tests.builders import NOW, SOL, USDC, a_request, attempt_failed, then
from tests.waiting import eventually

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


@pytest.fixture
async def world() -> AsyncIterator[World]:
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


async def no_quote(venue: Venue) -> NoQuote:
    result = (await venue.quote(an_order())).result
    assert isinstance(result, NoQuote)
    return result


async def test_a_quote_is_read_with_all_the_venue_said(world: World) -> None:
    fake = FakeVenue()
    answer = await (await world.venue(fake)).quote(an_order())
    assert isinstance(answer.result, Quote)
    assert answer.result.amount_out == 1_500_000_000
    assert (answer.result.pool, answer.result.fee, answer.result.fee_mint) == (POOL, 25, SOL)
    assert (answer.result.network_fee_lamports, answer.result.price_impact_ppm) == (5_000, 120)
    assert answer.result.raw["venueSpecific"] == {"kept": True}
    assert fake.singles == [
        {"inputMint": SOL, "outputMint": USDC, "amount": "10000000000", "slippageBps": "50"}
    ]  # what every aggregator of this shape takes


@pytest.mark.parametrize(
    ("body", "status", "reason", "why"),
    [
        ({"error": "x", "errorCode": "COULD_NOT_FIND_ANY_ROUTE"}, 404, Reason.NO_ROUTE, "no pool for SOL/USDC"),
        ({"error": "too small", "errorCode": "AMOUNT_TOO_SMALL"}, 400, Reason.AMOUNT_TOO_SMALL, "too small"),
        ({"error": "dry", "errorCode": "INSUFFICIENT_LIQUIDITY"}, 400, Reason.INSUFFICIENT_LIQUIDITY, "dry"),
        ({"error": "who?", "errorCode": "TOKEN_NOT_TRADABLE"}, 400, Reason.UNKNOWN_TOKEN, "who?"),
        ({"error": "a\nb\u202ec", "errorCode": "NEW"}, 400, Reason.VENUE_REFUSED, "refused, HTTP 400: a b c"),
        ({"error": None, "errorCode": {}}, 400, Reason.VENUE_REFUSED, "refused, HTTP 400: None"),
        ({"message": "no such page"}, 404, Reason.VENUE_REFUSED, "HTTP 404"),
        ({}, 503, Reason.VENUES_UNAVAILABLE, "HTTP 503"),
        ({}, 429, Reason.VENUES_UNAVAILABLE, "HTTP 429"),
        ({}, 302, Reason.VENUE_REFUSED, None),
    ],
)
async def test_a_refusal_has_a_reason_and_words(
    world: World, body: Any, status: int, reason: Reason, why: str | None
) -> None:
    result = await no_quote(await world.venue(FakeVenue(answers(body, status))))
    assert result.reason is reason
    assert why is None or result.why == why


GARBAGE: list[Any] = [
    None,
    [],
    "quote",
    7,
    {},
    {"outAmount": "5"},
    a_quote({"inputMint": SOL, "outputMint": USDC, "amount": 10**10}, outAmount=1500000000),
    a_quote({"inputMint": SOL, "outputMint": USDC, "amount": 10**10}, outAmount="1.5e9"),
    a_quote({"inputMint": SOL, "outputMint": USDC, "amount": 10**10}, outAmount="-5"),
    a_quote({"inputMint": SOL, "outputMint": USDC, "amount": 10**10}, outAmount="\u0661\u0662"),
    a_quote({"inputMint": SOL, "outputMint": USDC, "amount": 10**10}, outAmount="99999999999999999999"),
    a_quote({"inputMint": SOL, "outputMint": USDC, "amount": 10**10}, outAmount="9" * 5_000),
    a_quote({"inputMint": SOL, "outputMint": USDC, "amount": 10**10}, routePlan=[]),
    a_quote({"inputMint": SOL, "outputMint": USDC, "amount": 10**10}, routePlan=[{"swapInfo": None}]),
    a_quote({"inputMint": SOL, "outputMint": USDC, "amount": 10**10}, swapMode="ExactOut"),
    a_quote({"inputMint": SOL, "outputMint": USDC, "amount": 10**10}, networkFeeLamports=-1),
    a_quote({"inputMint": SOL, "outputMint": USDC, "amount": 10**10}, padding="x" * 50_000),
    a_quote({"inputMint": SOL, "outputMint": USDC, "amount": 10**10}, padding=[[]] * 300),
    a_quote({"inputMint": SOL, "outputMint": SOL, "amount": 10**10}),
    a_quote({"inputMint": SOL, "outputMint": USDC, "amount": 10**10 - 1}),
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_is_a_failed_answer_never_a_crash(world: World, body: Any) -> None:
    result = await no_quote(await world.venue(FakeVenue(answers(body))))
    assert result.reason is Reason.VENUE_REFUSED
    assert result.why.startswith("venue answered nonsense: ")
    assert len(result.why) < 300


@pytest.mark.parametrize("raw", [b"", b"<html>", b"{", b"[" * 100_000, b"\xff\xfe", b"NaN", b'{"a":NaN}'])
async def test_what_is_not_json_is_nonsense(world: World, raw: bytes) -> None:
    result = await no_quote(await world.venue(FakeVenue(lambda _: web.Response(body=raw))))
    assert (result.reason, result.why) == (Reason.VENUE_REFUSED, "venue answered nonsense: the answer is not JSON")


async def test_an_endless_answer_is_cut_off(world: World) -> None:
    huge = b" " * (9 * 1024 * 1024)
    result = await no_quote(await world.venue(FakeVenue(lambda _: web.Response(body=huge))))
    assert result.why == "venue answered nonsense: the answer is longer than 8388608 bytes"


async def test_nothing_coming_out_is_too_small(world: World) -> None:
    venue = await world.venue(FakeVenue(lambda question: web.json_response(a_quote(question, 0))))
    assert (await no_quote(venue)).reason is Reason.AMOUNT_TOO_SMALL


@pytest.mark.parametrize("impact", ["", "x", "NaN", "Infinity", "1e999", None, "2"])
async def test_a_price_impact_that_cannot_be_read_is_left_out(world: World, impact: str | None) -> None:
    venue = await world.venue(FakeVenue(lambda question: web.json_response(a_quote(question, priceImpactPct=impact))))
    answer = await venue.quote(an_order())
    assert isinstance(answer.result, Quote)
    assert answer.result.price_impact_ppm is None


async def test_a_slow_venue_is_told_its_deadline(world: World) -> None:
    fake = FakeVenue()
    fake.gate.clear()
    result = await no_quote(await world.venue(fake, deadline_ms=50))
    assert (result.reason, result.why) == (Reason.VENUES_UNAVAILABLE, "no answer within 50 ms")
    fake.gate.set()


async def test_a_dead_venue_is_an_answer(world: World) -> None:
    async with serve(web.Application(), "127.0.0.1", 0) as port:
        pass
    result = await no_quote(await world.at(port))
    assert result.reason is Reason.VENUES_UNAVAILABLE
    assert result.why.startswith("cannot connect")


async def test_a_venue_that_hangs_up_is_an_answer(world: World) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        result = await no_quote(await world.at(server.sockets[0].getsockname()[1]))
    assert (result.reason, result.why) == (Reason.VENUES_UNAVAILABLE, "the connection was lost")


async def many(fake: FakeVenue, venue: Venue, amounts: list[int]) -> list[Any]:
    """Hold the first calls back so that the others collect behind them."""
    fake.gate.clear()
    tasks = [asyncio.create_task(venue.quote(an_order(amount_in=amount))) for amount in amounts]
    await eventually(lambda: fake.singles, poll_s=0.001)
    fake.gate.set()
    return [answer.result for answer in await asyncio.gather(*tasks)]


async def test_questions_of_many_orders_share_a_request_and_each_gets_its_own_answer(world: World) -> None:
    fake = FakeVenue(lambda question: web.json_response(a_quote(question, int(question["amount"]) * 2)))
    results = await many(fake, await world.venue(fake), list(range(10, 40)))
    assert sum(fake.lists) + len(fake.singles) == 30
    assert len(fake.lists) <= 2
    for amount, result in zip(range(10, 40), results, strict=True):
        if amount == 13:
            assert isinstance(result, NoQuote)
            assert result.reason is Reason.NO_ROUTE
        else:
            assert isinstance(result, Quote)
            assert result.amount_out == amount * 2


async def test_a_venue_without_lists_is_asked_one_by_one_from_then_on(world: World) -> None:
    fake = FakeVenue(lambda question: web.json_response(a_quote(question, int(question["amount"]) * 2)), batches=False)
    venue = await world.venue(fake)
    results = await many(fake, venue, list(range(10, 40)))
    assert [result.amount_out for result in results] == [amount * 2 for amount in range(10, 40)]
    assert fake.refused_lists == 1
    await many(fake, venue, list(range(10, 20)))
    assert fake.refused_lists == 1


def a_router(*venues: Venue) -> Router:
    return Router(venues=venues, policy=POLICY, now=lambda: NOW, fraction=lambda: 0.5)


async def routed(router: Router) -> Any:
    now = a_snapshot()
    _, started = then(now, RoutingStarted(attempt=1))
    (event,) = await router.handle(started.order, started.event)
    return event


async def test_a_new_order_and_a_failed_attempt_both_start_the_next_attempt() -> None:
    requested = a_snapshot()
    assert await a_router().handle(requested.order, requested.event) == [RoutingStarted(attempt=1)]
    _, failed = then(requested, RoutingStarted(attempt=1), attempt_failed())
    assert await a_router().handle(failed.order, failed.event) == [RoutingStarted(attempt=2)]


async def test_an_order_whose_time_is_over_expires_at_any_step_of_the_router() -> None:
    requested = a_snapshot(expires_at=NOW)
    _, started = then(requested, RoutingStarted(attempt=1))
    _, failed = then(started, attempt_failed())
    for now in (requested, started, failed):
        assert await a_router().handle(now.order, now.event) == [OrderExpired(expires_at=NOW)]


async def test_neither_a_slow_nor_a_dead_nor_a_mad_venue_stops_the_others(world: World) -> None:
    slow = FakeVenue()
    slow.gate.clear()
    async with serve(web.Application(), "127.0.0.1", 0) as free_port:
        pass
    router = a_router(
        await world.venue(FakeVenue(), "raydium"),
        await world.venue(FakeVenue(lambda question: web.json_response(a_quote(question, 1_498_200_000))), "meteora"),
        await world.venue(slow, "slow", deadline_ms=100),
        await world.at(free_port, "dead"),
        await world.venue(FakeVenue(answers("what?")), "mad"),
        await world.venue(FakeVenue(answers({}, 503)), "down"),
    )
    event = await routed(router)
    slow.gate.set()
    assert isinstance(event, RouteSelected)
    assert event.route.legs[0].venue == "raydium"
    told = {candidate.venue: (candidate.outcome, candidate.why) for candidate in event.candidates}
    assert told["meteora"] == ("lost", "0.12 % less than raydium")
    assert told["slow"] == ("failed", "no answer within 100 ms")
    assert told["down"] == ("failed", "HTTP 503")
    assert told["dead"][0] == told["mad"][0] == "failed"


async def test_without_any_venue_in_reach_the_attempt_fails_and_is_repeated(world: World) -> None:
    event = await routed(a_router(await world.venue(FakeVenue(answers({}, 503)))))
    assert isinstance(event, AttemptFailed)
    assert (event.reason, event.detail, event.delay_ms) == (Reason.VENUES_UNAVAILABLE, "raydium: HTTP 503", 50)


async def test_a_pair_no_venue_knows_fails_the_order_at_once(world: World) -> None:
    unknown = FakeVenue(answers({"error": "none", "errorCode": "COULD_NOT_FIND_ANY_ROUTE"}, 404))
    event = await routed(a_router(await world.venue(unknown, "a"), await world.venue(unknown, "b")))
    assert isinstance(event, OrderFailed)
    assert (event.reason, event.detail) == (Reason.NO_ROUTE, "a: no pool for SOL/USDC; b: no pool for SOL/USDC")
