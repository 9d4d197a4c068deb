"""Server-Sent Events: the same messages in the same order, and `Last-Event-ID` is all that coming back takes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from gc import collect
from typing import Any
from weakref import ref

import pytest
from aiohttp import ClientResponse

from libs.events.memory_log import MemoryLog
from libs.service.tokens import Claims
from services.gateway.openapi import openapi
from services.notifier.stream import EventStream
from tests.contract.notifier_rig import (
    PARTITIONS,
    Notifier,
    running,
)
from tests.journeys import JOURNEY
from tests.waiting import eventually


@dataclass
class Sent:
    """One event as `EventSource` would hand it over."""

    event: str
    id: str
    data: Any


@asynccontextmanager
async def stream(
    notifier: Notifier, user: str = "alice", last: str | None = None, **asked: str
) -> AsyncIterator[ClientResponse]:
    headers = {"Authorization": f"Bearer {user}"} if user else {}
    if last:
        headers["Last-Event-ID"] = last
    url = notifier.url.replace("/api/ws/", "/api/stream/")
    async with notifier.session.get(url, headers=headers, params=asked) as answer:
        yield answer


async def events(answer: ClientResponse, count: int) -> list[Sent]:
    found: list[Sent] = []
    fields: dict[str, str] = {}
    while len(found) < count:
        line = (await answer.content.readline()).decode()
        assert line, "the stream ended"
        name, _, value = line.rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:
            found.append(Sent(fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"])))
            fields = {}
        else:
            fields = {}
    return found


async def test_the_story_of_an_order(notifier: Notifier) -> None:
    order = await notifier.requested()
    async with stream(notifier, orderId=order.order.id) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        (snapshot,) = await events(answer, 1)
        await notifier.happens(order, *JOURNEY)
        told = await events(answer, 6)
    assert snapshot.event == "snapshot"
    assert snapshot.id == snapshot.data["cursor"]
    assert [sent.data["version"] for sent in told] == [2, 3, 4, 5, 6, 7]
    assert all(sent.event == "order" and sent.id == sent.data["cursor"] for sent in told)


async def test_what_events_are_called_is_told(notifier: Notifier) -> None:
    answers = json.loads(openapi())["paths"]["/api/stream/orders"]["get"]["responses"]
    described = answers["200"]["content"]["text/event-stream"]["schema"]["description"]
    order = await notifier.requested()
    async with stream(notifier, orderId=order.order.id, cursor="none") as answer:
        found = await events(answer, 2)
        await notifier.happens(order, *JOURNEY)
        found += await events(answer, len(JOURNEY))
        await notifier.hub.drain()
        found += await events(answer, 1)
    assert {sent.event for sent in found} == {"reset", "snapshot", "order", "close"}
    assert all(f"`{sent.event}`" in described for sent in found)


async def test_coming_back_with_the_last_id_goes_on_from_there(notifier: Notifier) -> None:
    order = await notifier.requested()
    async with stream(notifier) as answer:
        await events(answer, 1)
        order = await notifier.happens(order, *JOURNEY[:3])
        told = await events(answer, 2)
    async with stream(notifier, last=told[-1].id) as answer:
        await notifier.happens(order, *JOURNEY[3:])
        rest = await events(answer, 4)
    assert [sent.data["version"] for sent in told + rest] == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("user", "asked", "code"),
    [("", {}, "token_missing"), ("bad", {}, "token_invalid"), ("", {"ticket": "x"}, "ticket_invalid")],
)
async def test_who_may_not_listen_gets_a_plain_answer(
    notifier: Notifier, user: str, asked: dict[str, str], code: str
) -> None:
    async with stream(notifier, user, **asked) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["code"]) == (401, code)
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/api/stream/order", "/api/stream/", "/api/ws/order"])
async def test_an_address_that_is_not_there_is_a_problem_as_everywhere(notifier: Notifier, path: str) -> None:
    async with notifier.session.get(notifier.url.replace("/api/ws/orders", path)) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["code"], problem["instance"]) == (404, "not_found", path)
        assert "/api/docs" in problem["detail"]


async def test_orders_of_others_cannot_be_listened_to(notifier: Notifier) -> None:
    foreign = await notifier.requested("bob")
    async with stream(notifier, orderId=foreign.order.id) as answer:
        assert answer.status == 404


async def test_a_browser_listens_with_a_ticket(notifier: Notifier) -> None:
    await notifier.requested("tom")
    notifier.tickets.given.add("tom")
    async with stream(notifier, "", ticket="tom") as answer:
        (snapshot,) = await events(answer, 1)
    assert len(snapshot.data["orders"]) == 1


async def test_the_end_says_whether_to_come_back(notifier: Notifier) -> None:
    async with stream(notifier) as answer:
        await events(answer, 1)
        draining = asyncio.create_task(notifier.hub.drain())
        (last,) = await events(answer, 1)
        assert await answer.content.read() == b""
    await draining
    assert last.event == "close"
    assert last.data["code"] == 4001


async def test_an_expired_token_ends_the_stream() -> None:
    def soon(token: str) -> Claims:
        return Claims(token, datetime.now(UTC) + timedelta(seconds=0.3))

    async with running(MemoryLog(PARTITIONS), verify=soon) as notifier, stream(notifier) as answer:
        _, last = await events(answer, 2)
    assert last.data["code"] == 4401


async def test_a_client_that_leaves_is_forgotten(notifier: Notifier) -> None:
    async with stream(notifier) as answer:
        await events(answer, 1)
        assert len(list(notifier.hub.listeners)) == 1
        answer.close()
        await eventually(lambda: not notifier.hub.listeners)


async def test_the_last_id_goes_before_the_cursor_the_stream_was_first_opened_with(notifier: Notifier) -> None:
    order = await notifier.requested()
    async with stream(notifier) as answer:
        (snapshot,) = await events(answer, 1)
        order = await notifier.happens(order, *JOURNEY[:3])
        told = await events(answer, 3)
    async with stream(notifier, last=told[1].id, cursor=snapshot.id) as answer:
        (next_one,) = await events(answer, 1)
    assert next_one.data["version"] == told[2].data["version"]


async def test_of_a_client_that_left_nothing_is_kept_until_its_token_ends(notifier: Notifier) -> None:
    async with stream(notifier) as answer:
        await events(answer, 1)
        (one,) = notifier.hub.listeners
        assert isinstance(one._wire, EventStream)
        left = ref(one._wire.transport)
        del one
        answer.close()

    def gone() -> bool:
        collect()
        return left() is None

    await eventually(gone, within_s=10)
