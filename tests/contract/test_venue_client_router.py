"""The router has a decision in time, with venues on their worst behaviour: over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from socket import socket
from typing import Any

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
from libs.quoting.venue import CALLS_IN_FLIGHT_MAX, QUOTES_PER_CALL_MAX, Venue
from libs.service.http import open_session
from libs.service.settings import Settings
from services.router import handlers
from services.router.__main__ import market
from services.router.handlers import Router
from tests.builders import NOW, as_one, attempt_failed, then
from tests.contract.fake_venue import POLICY, FakeVenue, World, a_quote, a_snapshot, answers, running_world
from tests.waiting import eventually


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running_world() as world:
        yield world


def a_router(*venues: Venue) -> Router:
    return Router(venues=as_one(*venues), policy=POLICY, now=lambda: NOW, fraction=lambda: 0.5)


async def routed(router: Router) -> Any:
    now = a_snapshot()
    _, started = then(now, RoutingStarted(attempt=1))
    (event,) = await router.handle(started.order, started.event)
    return event


async def test_a_new_order_and_a_failed_attempt_both_start_the_next_attempt() -> None:
    requested = a_snapshot()
    (started, _) = await a_router().handle(requested.order, requested.event)
    assert started == RoutingStarted(attempt=1)
    _, failed = then(requested, RoutingStarted(attempt=1), attempt_failed())
    (started, _) = await a_router().handle(failed.order, failed.event)
    assert started == RoutingStarted(attempt=2)


async def test_quick_venues_are_told_of_with_the_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "TOGETHER_S", 10)
    requested = a_snapshot()
    started, selected = await a_router(await world.venue(FakeVenue(), "raydium")).handle(
        requested.order, requested.event
    )
    assert started == RoutingStarted(attempt=1)
    assert isinstance(selected, RouteSelected)
    assert selected.attempt == 1


async def test_slow_venues_are_waited_for_after_the_start_and_asked_once(world: World) -> None:
    slow = FakeVenue()
    slow.gate.clear()
    router = a_router(await world.venue(slow, "raydium"))
    requested = a_snapshot()
    assert await router.handle(requested.order, requested.event) == [RoutingStarted(attempt=1)]
    _, started = then(requested, RoutingStarted(attempt=1))
    slow.gate.set()
    (selected,) = await router.handle(started.order, started.event)
    assert isinstance(selected, RouteSelected)
    assert len(slow.singles) == 1


async def test_an_answer_nobody_comes_for_is_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the start of the attempt could not be written: quotes age, and memory is not for ever."""
    monkeypatch.setattr(handlers, "ANSWER_KEPT_S", 0.01)
    slow = FakeVenue()
    slow.gate.clear()
    router = a_router(await world.venue(slow, "raydium"))
    requested = a_snapshot()
    assert await router.handle(requested.order, requested.event) == [RoutingStarted(attempt=1)]
    slow.gate.set()
    await eventually(lambda: not router._asked)
    _, started = then(requested, RoutingStarted(attempt=1))
    (selected,) = await router.handle(started.order, started.event)
    assert isinstance(selected, RouteSelected)
    assert len(slow.singles) == 2, "it is asked for anew"


async def test_only_so_many_answers_are_waited_for_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "ASKED_MAX", 1)
    slow = FakeVenue(batches=False)
    slow.gate.clear()
    router = a_router(await world.venue(slow, "raydium"))
    pairs = [(now.order, now.event) for now in (a_snapshot(), a_snapshot())]
    assert await router.handle_many(pairs) == [[RoutingStarted(attempt=1)]] * 2
    assert len(router._asked) == 1
    slow.gate.set()
    starts = [then(Snapshot(*pair), RoutingStarted(attempt=1))[1] for pair in pairs]
    events = await router.handle_many([(now.order, now.event) for now in starts])
    assert [type(event) for (event,) in events] == [RouteSelected] * 2


async def test_who_is_cancelled_takes_no_answer_from_those_who_asked_with_him(world: World) -> None:
    slow = FakeVenue(batches=False)
    slow.gate.clear()
    router = a_router(await world.venue(slow, "raydium"))
    pairs = [(now.order, now.event) for now in (a_snapshot(), a_snapshot())]
    assert await router.handle_many(pairs) == [[RoutingStarted(attempt=1)]] * 2
    (first, second) = [then(Snapshot(*pair), RoutingStarted(attempt=1))[1] for pair in pairs]
    asking = asyncio.create_task(router.handle(first.order, first.event))
    await asyncio.sleep(0)  # it waits for the answer by now
    asking.cancel()
    await asyncio.wait([asking])
    slow.gate.set()
    (selected,) = await router.handle(second.order, second.event)
    assert isinstance(selected, RouteSelected)


async def test_orders_that_go_on_with_routing_share_a_question(world: World) -> None:
    fake = FakeVenue()
    starts = [then(a_snapshot(), RoutingStarted(attempt=1))[1] for _ in range(10)]
    events = await a_router(await world.venue(fake)).handle_many([(now.order, now.event) for now in starts])
    assert [type(event) for (event,) in events] == [RouteSelected] * 10
    assert (fake.singles, fake.lists) == ([], [10])


async def test_orders_on_their_way_do_not_queue_behind_the_watch_of_prices(world: World) -> None:
    fake, free = FakeVenue(), asyncio.Event()

    async def answered(body: dict[str, Any]) -> web.Response:
        await free.wait()
        return web.json_response({"quotes": [a_quote(question) for question in body["quotes"]]})

    fake.list_reply = answered
    there = await world.venue(fake)
    settings = Settings(venues=f"raydium={there._url}", quote_deadline_ms=30_000)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session())
        watched, venues = [await market(settings, session, stack) for _ in range(2)]
        orders = [a_snapshot().order for _ in range(CALLS_IN_FLIGHT_MAX * QUOTES_PER_CALL_MAX)]
        looking = asyncio.create_task(watched.ask(orders))
        await eventually(lambda: len(fake.lists) == CALLS_IN_FLIGHT_MAX)
        router = Router(venues, POLICY, lambda: NOW, lambda: 0.5)
        assert isinstance(await routed(router), RouteSelected)
        assert not looking.done()
        free.set()
        await looking


async def test_an_order_whose_time_is_over_expires_at_any_step_of_the_router() -> None:
    requested = a_snapshot(expires_at=NOW)
    _, started = then(requested, RoutingStarted(attempt=1))
    _, failed = then(started, attempt_failed())
    for now in (requested, started, failed):
        assert await a_router().handle(now.order, now.event) == [OrderExpired(expires_at=NOW)]


async def test_neither_a_slow_nor_a_dead_nor_a_mad_venue_stops_the_others(world: World) -> None:
    slow = FakeVenue()
    slow.gate.clear()
    # Bound and not listened to, so that it stays a place where nobody answers: a port let go is soon somebody else's.
    nobody = socket()
    nobody.bind(("127.0.0.1", 0))
    router = a_router(
        await world.venue(FakeVenue(), "raydium"),
        await world.venue(FakeVenue(lambda question: web.json_response(a_quote(question, 1_498_200_000))), "meteora"),
        await world.venue(slow, "slow", deadline_ms=100),
        await world.at(nobody.getsockname()[1], "dead"),
        await world.venue(FakeVenue(answers("what?")), "mad"),
        await world.venue(FakeVenue(answers({}, 503)), "down"),
    )
    event = await routed(router)
    slow.gate.set()
    nobody.close()
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
