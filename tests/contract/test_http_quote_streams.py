"""A stream of quotes tells only what is better, or that the last is over; and how many there are, and for how long."""

import asyncio
import json
import resource
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from libs.service.door import OF_OUR_OWN
from libs.service.shared import open_shared
from services.gateway import limits
from tests.contract.fake_venue import answers
from tests.contract.quotes_rig import ASKED, Market, market
from tests.waiting import eventually


async def test_a_stream_tells_only_what_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUOTE_EVERY_S", 0.02)
    venue = Market(1_500_000_000)
    async with market(venue) as client:
        url = client.url + ASKED.replace("/quotes", "/quotes/stream")
        async with client.session.get(url, headers={"Authorization": f"Bearer {client.token}"}) as stream:
            told = [await next_quote(stream)]
            for out in (1_490_000_000, 1_500_000_000, 1_520_000_000):
                venue.out = out
                await asyncio.sleep(0.1)  # while it asks at least once
            told.append(await next_quote(stream))
            venue.out = 1_600_000_000
            told.append(await next_quote(stream))
    assert told == ["1500", "1520", "1600"]


async def test_a_quote_that_is_over_is_followed_by_one_that_gives_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUOTE_EVERY_S", 0.02)
    monkeypatch.setattr(limits, "QUOTE_FIRM_FOR", timedelta(seconds=0.2))
    venue = Market(1_500_000_000)
    async with market(venue) as client:
        url = client.url + ASKED.replace("/quotes", "/quotes/stream")
        async with client.session.get(url, headers={"Authorization": f"Bearer {client.token}"}) as stream:
            assert await next_quote(stream) == "1500"
            venue.out = 1_400_000_000
            while (told := await next_quote(stream)) == "1500":
                pass
    assert told == "1400"


async def test_a_stream_waits_for_venues_that_do_not_quote_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUOTE_EVERY_S", 0.02)
    venue = Market(1_500_000_000)
    quotes = venue.reply
    async with market(venue) as client, asyncio.timeout(30):
        url = client.url + ASKED.replace("/quotes", "/quotes/stream")
        async with client.session.get(url, headers={"Authorization": f"Bearer {client.token}"}) as stream:
            assert await next_quote(stream) == "1500"
            venue.reply = answers({"error": "maintenance"}, 503)
            while not (await stream.content.readline()).startswith(b": no venue quotes now"):
                assert not stream.content.at_eof()
            venue.out, venue.reply = 1_600_000_000, quotes
            assert await next_quote(stream) == "1600"


async def test_a_stream_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUOTE_EVERY_S", 0.02)
    monkeypatch.setattr(limits, "QUOTE_STREAM_S", 0.1)
    async with market(Market(1_500_000_000)) as client:
        url = client.url + ASKED.replace("/quotes", "/quotes/stream")
        async with client.session.get(url, headers={"Authorization": f"Bearer {client.token}"}) as stream:
            assert b"1500" in await asyncio.wait_for(stream.content.read(), 30)


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


async def test_streams_of_quotes_leave_open_files_for_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (2 * OF_OUR_OWN, 2 * OF_OUR_OWN))
    path = ASKED.replace("/quotes", "/quotes/stream")
    async with market(Market(1_500_000_000)) as client, AsyncExitStack() as stack:
        mine = {"Authorization": f"Bearer {client.token}"}
        for _ in range(limits.QUOTE_STREAMS_PER_USER_MAX - 1):
            stream = await stack.enter_async_context(client.session.get(client.url + path, headers=mine))
            assert stream.status == 200
        refused = await client.get(path)
    assert (refused.status, refused.code) == (503, "busy")


async def next_quote(stream: Any) -> str:
    while not (line := (await stream.content.readline()).decode()).startswith("data: "):
        assert line, "the stream ended"
    return str(json.loads(line.removeprefix("data: "))["amountOut"])
