"""Quotes: the best of every venue's, firm for a moment, and a stream that tells only what is better."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from libs.events.memory_log import MemoryLog
from libs.service.shared import open_shared
from libs.venues.tokens import TOKENS
from services.gateway import limits
from services.gateway.quotes import Asked, Quotes
from tests.builders import as_one
from tests.contract.fake_venue import FakeVenue, a_quote, answers, running_world
from tests.contract.http_gateway import OLD_SECRET, ORDER, PARTITIONS, Client, gateway
from tests.waiting import eventually

ASKED = "/api/quotes?tokenIn=SOL&tokenOut=USDC&amount=10"


class Market(FakeVenue):
    """A venue with a price that can move: micro USDC for the whole amount."""

    def __init__(self, out: int) -> None:
        super().__init__(lambda question: web.json_response(a_quote(question, self.out)))
        self.out = out


@asynccontextmanager
async def market(*venues: FakeVenue, log: MemoryLog | None = None, **more: Any) -> AsyncIterator[Client]:
    async with running_world() as world:
        known = [await world.venue(venue, f"venue-{place}") for place, venue in enumerate(venues)]
        async with gateway(venues=known, log=log, **more) as client:
            yield client


async def test_the_best_quote_wins_and_every_answer_is_shown() -> None:
    async with market(Market(1_500_000_000), Market(1_510_000_000), FakeVenue(answers({"error": "x"}, 500))) as client:
        answer = await client.get(ASKED + "&slippageBps=100")
    assert answer.status == 200
    quote = answer.body
    assert (quote["amountOut"], quote["minAmountOut"]) == ("1510", "1494.9")
    assert (quote["tokenIn"], quote["amount"], quote["slippageBps"]) == ("SOL", "10", 100)
    assert quote["route"]["venue"] == "venue-1"
    assert [candidate["outcome"] for candidate in quote["candidates"]] == ["lost", "selected", "failed"]
    assert quote["priceImpactPpm"] == 120
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_venue_that_may_take_longer_than_a_store_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(question: Any) -> web.Response:
        await asyncio.sleep(0.2)  # longer than a store may take, as set below
        return web.json_response(a_quote(question, 1_500_000_000))

    monkeypatch.setattr(limits, "READ_DEADLINE_S", 0.05)
    async with market(FakeVenue(slow)) as client:
        assert (await client.get(ASKED)).status == 200


async def test_an_order_with_a_quote_gets_no_less_than_it() -> None:
    log = MemoryLog(PARTITIONS)
    async with market(Market(1_500_000_000), log=log) as client:
        quote = (await client.get(ASKED)).body
        placed = await client.post({**ORDER, "quoteId": quote["quoteId"]})
        assert placed.status == 202
        held = await log.find(placed.body["orderId"])
    assert placed.body["minAmountOut"] == quote["minAmountOut"] == "1492.5"
    assert held
    assert held.order.terms
    assert held.order.terms.min_out == 1_492_500_000


@pytest.mark.parametrize(("asked", "least"), [("1499", "1499"), ("1", "1492.5")])
async def test_an_order_with_a_quote_keeps_what_else_it_asks_for(asked: str, least: str) -> None:
    async with market(Market(1_500_000_000)) as client:
        terms = {"clientOrderId": "mine", "timeInForce": "IOC", "minAmountOut": asked}
        quote = (await client.get(ASKED)).body["quoteId"]
        placed = await client.post({**ORDER, **terms, "quoteId": quote})
        again = await client.post({**ORDER, **terms, "quoteId": quote})
    assert {name: placed.body[name] for name in terms} == {**terms, "minAmountOut": least}
    assert again.body["orderId"] == placed.body["orderId"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"amount": 11}, "quote_differs"),
        ({"slippageBps": 51}, "quote_differs"),
        ({"tokenOut": "USDT"}, "quote_differs"),
        ({"quoteId": "q1.x.y"}, "quote_unknown"),
        ({"quoteId": "nonsense"}, "quote_unknown"),
        ({"quoteId": "q1.💥.x"}, "quote_unknown"),
    ],
)
async def test_a_quote_for_something_else_is_refused(change: dict[str, Any], code: str) -> None:
    async with market(Market(1_500_000_000)) as client:
        quote = (await client.get(ASKED)).body["quoteId"]
        refused = await client.post({**ORDER, "quoteId": quote, **change})
    assert refused.code == "invalid_body"
    assert [(fault["pointer"], fault["code"]) for fault in refused.body["errors"]] == [("#/quoteId", code)]


async def test_a_quote_cannot_be_changed_or_lent() -> None:
    async with market(Market(1_500_000_000)) as client:
        quote = (await client.get(ASKED)).body["quoteId"]
        payload, _, signature = quote.rpartition(".")
        forged = payload[:-2] + ("AA" if payload[-2:] != "AA" else "BB") + "." + signature
        for body, who in (({**ORDER, "quoteId": forged}, client), ({**ORDER, "quoteId": quote}, client.other("bob"))):
            assert (await who.post(body)).body["errors"][0]["code"] == "quote_unknown"


async def test_a_quote_is_firm_for_a_moment_and_a_repetition_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUOTE_FIRM_FOR", timedelta(seconds=1.5))
    async with market(Market(1_500_000_000)) as client:
        body = {**ORDER, "quoteId": (await client.get(ASKED)).body["quoteId"]}
        first = await client.post(body, Idempotency_Key="k")
        await asyncio.sleep(1.6)  # until the quote's time is over
        for late in (await client.post(body), await client.post(body, Idempotency_Key="another")):
            assert late.body["errors"][0]["code"] == "quote_expired"
        again = await client.post(body, Idempotency_Key="k")
    assert (again.status, again.body["orderId"]) == (202, first.body["orderId"])


async def test_a_quote_outlives_a_change_of_the_secret_that_signed_it() -> None:
    async with running_world() as world:
        venue = await world.venue(Market(1_500_000_000), "venue")
        before = Quotes(as_one(venue), (OLD_SECRET,), lambda: datetime.now(UTC))
        given = await before.quote(Asked(TOKENS["SOL"], TOKENS["USDC"], 10 * 10**9, 50), "user-1")
        async with gateway(venues=[venue]) as client:
            placed = await client.post({**ORDER, "quoteId": given.body["quoteId"]})
    assert placed.status == 202
    assert placed.body["minAmountOut"] == given.body["minAmountOut"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 422, "invalid_body"),
        ("?tokenIn=SOL&tokenOut=USDC&amount=x", 422, "invalid_body"),
        ("?tokenIn=SOLL&tokenOut=USDC&amount=1", 422, "invalid_body"),
        ("?tokenIn=SOL&tokenOut=USDC&amount=1&slippageBps=-1", 400, "invalid_parameter"),
        ("?tokenIn=SOL&tokenOut=USDC&amount=1&slippage=1", 400, "invalid_parameter"),
    ],
)
async def test_what_cannot_be_quoted_is_told_why(query: str, status: int, code: str) -> None:
    async with market(Market(1)) as client:
        answer = await client.get("/api/quotes" + query)
    assert (answer.status, answer.code) == (status, code)


async def test_when_nobody_quotes_the_reason_is_told() -> None:
    nobody = FakeVenue(answers({"error": "none", "errorCode": "COULD_NOT_FIND_ANY_ROUTE"}, 400))
    async with market(nobody) as client:
        answer = await client.get(ASKED)
    assert (answer.status, answer.code) == (404, "no_quote")
    assert answer.body["reason"] == "no_route"


async def test_while_no_venue_can_be_asked_it_is_worth_coming_back() -> None:
    away = FakeVenue(answers({"error": "maintenance"}, 503))
    async with market(away) as client:
        answer = await client.get(ASKED)
    assert (answer.status, answer.code) == (503, "venues_unavailable")
    assert answer.body["retryable"] is True
    assert answer.headers["Retry-After"] == "1"


async def test_a_stream_tells_only_what_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUOTE_EVERY_S", 0.02)
    venue = Market(1_500_000_000)
    async with market(venue) as client:
        url = client.url + ASKED.replace("/quotes", "/quotes/stream")
        async with client.session.get(url, headers={"Authorization": f"Bearer {client.token}"}) as stream:
            told = [await next_quote(stream)]
            for out in (1_490_000_000, 1_500_000_000, 1_520_000_000):
                venue.out = out
                await asyncio.sleep(0.1)
            told.append(await next_quote(stream))
            venue.out = 1_600_000_000
            told.append(await next_quote(stream))
    assert told == ["1500", "1520", "1600"]


async def test_a_stream_has_the_headers_of_every_answer(redis_url: str) -> None:
    async with (
        open_shared(redis_url) as shared,
        market(Market(1_500_000_000), shared=shared, cors_origins=frozenset({"https://app.example"})) as client,
    ):
        asked = {"Origin": "https://app.example", "X-Request-Id": "mine", "Authorization": f"Bearer {client.token}"}
        url = client.url + ASKED.replace("/quotes", "/quotes/stream")
        async with client.session.get(url, headers=asked) as stream:
            assert stream.headers["Access-Control-Allow-Origin"] == "https://app.example"
            assert stream.headers["X-Request-Id"] == "mine"
            assert stream.headers["RateLimit"].startswith('"reads"')


async def test_streams_of_one_user_are_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUOTE_STREAMS_PER_USER_MAX", 1)
    async with market(Market(1_500_000_000)) as client:
        url = client.url + ASKED.replace("/quotes", "/quotes/stream")
        async with client.session.get(url, headers={"Authorization": f"Bearer {client.token}"}) as stream:
            await next_quote(stream)
            assert (await client.get(ASKED.replace("/quotes", "/quotes/stream"))).code == "rate_limited"


async def test_a_stream_that_was_left_is_none_of_these(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "QUOTE_STREAMS_PER_USER_MAX", 1)
    monkeypatch.setattr(limits, "QUOTE_EVERY_S", 0.02)
    monkeypatch.setattr(limits, "QUOTE_FIRM_FOR", timedelta(hours=1))  # nothing is told in which the leaving would show
    async with market(Market(1_500_000_000)) as client:
        url = client.url + ASKED.replace("/quotes", "/quotes/stream")
        mine = {"Authorization": f"Bearer {client.token}"}

        async def told() -> bool:
            async with client.session.get(url, headers=mine) as stream:
                return stream.status == 200 and bool(await next_quote(stream))

        assert await told()
        await eventually(told, within_s=10)
        await eventually(told, within_s=10)  # so the one before has come to its end
    assert "Error handling request" not in caplog.text


async def test_who_has_no_stream_is_not_told_to_close_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUOTE_STREAMS_MAX", 1)
    path = ASKED.replace("/quotes", "/quotes/stream")
    async with market(Market(1_500_000_000)) as client:
        mine = {"Authorization": f"Bearer {client.token}"}
        async with client.session.get(client.url + path, headers=mine) as stream:
            await next_quote(stream)
            refused = await client.other("bob").get(path)
    assert (refused.status, refused.code) == (503, "busy")
    assert "close" not in refused.body["detail"]


async def next_quote(stream: Any) -> str:
    while not (line := (await stream.content.readline()).decode()).startswith("data: "):
        assert line, "the stream ended"
    return str(json.loads(line.removeprefix("data: "))["amountOut"])
