"""Whatever venues do, the router has an answer in time: over real sockets, with venues on their worst behaviour."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from libs.events.model import (
    Reason,
)
from libs.quoting.answer import NoQuote, Quote
from libs.quoting.venue import Venue
from libs.service.health import serve
from libs.service.http import PEER_CONNECTIONS_MAX
from tests.builders import SOL, USDC
from tests.contract.fake_venue import (
    POOL,
    FakeVenue,
    World,
    a_quote,
    an_order,
    answers,
    asked,
    no_quote,
    running_world,
)
from tests.waiting import eventually


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running_world() as world:
        yield world


async def test_a_quote_is_read_with_all_the_venue_said(world: World) -> None:
    fake = FakeVenue()
    answer = await asked(await world.venue(fake))
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


async def test_a_refusal_in_endless_brackets_is_an_answer(world: World) -> None:
    raw = b'{"error":' + b"[" * 1_000 + b"]" * 1_000 + b"}"
    result = await no_quote(await world.venue(FakeVenue(lambda _: web.Response(body=raw))))
    assert result.reason is Reason.VENUE_REFUSED


async def test_an_endless_answer_is_cut_off(world: World) -> None:
    huge = b" " * (9 * 1024 * 1024)
    result = await no_quote(await world.venue(FakeVenue(lambda _: web.Response(body=huge))))
    assert result.why == "venue answered nonsense: the answer is longer than 8388608 bytes"


async def test_nothing_coming_out_is_too_small(world: World) -> None:
    venue = await world.venue(FakeVenue(lambda question: web.json_response(a_quote(question, 0))))
    assert (await no_quote(venue)).reason is Reason.AMOUNT_TOO_SMALL


@pytest.mark.parametrize("impact", ["", "x", "NaN", "Infinity", "1e999", "1e9999999", None, "2"])
async def test_a_price_impact_that_cannot_be_read_is_left_out(world: World, impact: str | None) -> None:
    venue = await world.venue(FakeVenue(lambda question: web.json_response(a_quote(question, priceImpactPct=impact))))
    answer = await asked(venue)
    assert isinstance(answer.result, Quote)
    assert answer.result.price_impact_ppm is None


async def test_a_slow_venue_is_told_its_deadline(world: World) -> None:
    fake = FakeVenue()
    fake.gate.clear()
    result = await no_quote(await world.venue(fake, deadline_ms=50))
    assert (result.reason, result.why) == (Reason.VENUES_UNAVAILABLE, "no answer within 50 ms")
    fake.gate.set()


async def test_a_venue_that_hangs_leaves_connections_to_the_others(world: World) -> None:
    hanging = FakeVenue(batches=False)
    hanging.gate.clear()
    slow = await world.venue(hanging)
    waiting = asyncio.ensure_future(slow.quote_many([an_order()] * PEER_CONNECTIONS_MAX * 2))
    await eventually(lambda: len(hanging.singles) >= PEER_CONNECTIONS_MAX, what="all connections it may have")
    other = await world.venue(FakeVenue(), "meteora", deadline_ms=2_000)
    assert isinstance((await asked(other)).result, Quote)
    waiting.cancel()


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
    tasks = [asyncio.create_task(asked(venue, amount_in=amount)) for amount in amounts]
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


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": "amount 13 is odd"}, 400),
        ({"error": "too large"}, 413),
        ({}, 422),
        ({"quotes": [{}]}, 200),
        ([], 200),
    ],
)
async def test_a_list_refused_as_a_whole_is_asked_again_one_by_one(world: World, body: Any, status: int) -> None:
    """One question a venue will not have is no trouble of those that left with it."""

    def reply(question: dict[str, Any]) -> web.Response:
        if question["amount"] == "13":
            return web.json_response({"error": "amount 13 is odd"}, status=400)
        return web.json_response(a_quote(question, int(question["amount"]) * 2))

    fake = FakeVenue(reply)
    fake.list_reply = answers(body, status)
    results = await many(fake, await world.venue(fake), list(range(10, 20)))
    assert [result.amount_out for result in results if isinstance(result, Quote)] == [
        amount * 2 for amount in range(10, 20) if amount != 13
    ]


async def test_a_venue_that_will_not_have_us_is_not_asked_one_by_one(world: World) -> None:
    fake = FakeVenue()
    fake.list_reply = answers({"error": "who are you?"}, 403)
    await many(fake, await world.venue(fake), list(range(10, 40)))
    assert fake.lists
    assert len(fake.singles) + sum(fake.lists) == 30
