"""Quotes: the best of every venue's, firm for a moment."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from libs.events.memory_log import MemoryLog
from libs.venues.tokens import TOKENS
from services.gateway import limits
from services.gateway.quotes import Asked, Quotes
from tests.builders import as_one
from tests.contract.fake_venue import FakeVenue, a_quote, answers, running_world
from tests.contract.http_gateway import OLD_SECRET, ORDER, PARTITIONS, gateway
from tests.contract.quotes_rig import ASKED, Market, market


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
