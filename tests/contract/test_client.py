"""The client library against a real gateway and notifier in this process: what it makes of resets and closes."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.client import ApiError, Client, Event, Unreachable, transport, watching
from libs.client.watching import Watching
from libs.events.errors import LogMismatch
from libs.service.tokens import Claims, verify_token
from services.gateway.tunnel import Tunnels
from tests.builders import attempt_failed, routing_started
from tests.contract.http_gateway import PARTITIONS, SECRET, gateway
from tests.contract.notifier_rig import LIMITS, HeldBackLog, Notifier, running
from tests.journeys import JOURNEY
from tests.waiting import eventually

USER = "user-1"
ALL = list(range(1, len(JOURNEY) + 2))


@asynccontextmanager
async def connected(log: HeldBackLog, snapshot_orders: int = 100) -> AsyncIterator[tuple[Client, Notifier]]:
    limits = replace(LIMITS, snapshot_orders=snapshot_orders, reconnect_spread_ms=1)
    async with running(log, limits, lambda token: verify_token(token, SECRET)) as notifier:
        tunnels = Tunnels(notifier.url.rpartition("/api/")[0])
        async with gateway(log=log, tunnels=tunnels) as http, Client(http.url, token=http.token) as client:
            yield client, notifier


async def test_a_reset_tells_nothing_twice_and_leaves_nothing_out() -> None:
    """Some orders had ended, one goes on, and more than a snapshot holds are new."""
    log = HeldBackLog(PARTITIONS)
    async with connected(log, snapshot_orders=2) as (client, notifier):
        old = await notifier.requested(USER)
        seen: dict[str, list[int]] = defaultdict(list)
        collecting = asyncio.create_task(_collect(client, seen))
        await eventually(lambda: any(one.live for one in notifier.hub.listeners))
        await notifier.happens(old, *JOURNEY)
        going_on = await notifier.happens(await notifier.requested(USER), routing_started())
        await eventually(lambda: seen[old.order.id] == ALL[1:] and seen[going_on.order.id] == [1, 2])

        log.released.clear()
        going_on = await notifier.happens(going_on, attempt_failed())
        new = [await notifier.happens(await notifier.requested(USER), *JOURNEY) for _ in range(5)]
        log.failure = LogMismatch("a hole")
        log.released.set()
        await eventually(lambda: all(seen[one.order.id][-1:] == [7] for one in new))
        await notifier.happens(going_on, routing_started(2))
        await eventually(lambda: seen[going_on.order.id] == [1, 2, 3, 4])
        assert seen == {
            old.order.id: ALL[1:],
            going_on.order.id: [1, 2, 3, 4],
            **{one.order.id: ALL for one in new},
        }
        collecting.cancel()


@pytest.mark.parametrize("key", ["run#1", "run?2", "run/3", "50%", "100%25", "a b", '"run"', "~!$&'()*+,;=:@[]"])
async def test_an_order_is_found_by_whatever_key_it_was_placed_under(key: str) -> None:
    async with gateway() as http, Client(http.url, token=http.token) as client:
        await client.place("SOL", "USDC", 1, key="run")
        placed = await client.place("SOL", "USDC", 2, key=key)
        assert (await client.order_by_client_id(key)).order_id == placed.order_id


async def test_a_reset_leaves_out_no_order_that_waited_for_longer_than_a_snapshot_goes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "CLOCKS_APART", timedelta(days=-1))  # what is here was made long before
    log = HeldBackLog(PARTITIONS)
    async with connected(log, snapshot_orders=2) as (client, notifier):
        waits = await notifier.happens(await notifier.requested(USER), routing_started())
        for _ in range(2):
            await notifier.happens(await notifier.requested(USER), *JOURNEY)
        seen: dict[str, list[int]] = defaultdict(list)
        collecting = asyncio.create_task(_collect(client, seen))
        await eventually(lambda: any(one.live for one in notifier.hub.listeners))
        log.released.clear()
        await notifier.happens(waits, *JOURNEY[1:])
        log.failure = LogMismatch("a hole")
        log.released.set()
        await eventually(lambda: seen == {waits.order.id: ALL[2:]}, within_s=20)
        collecting.cancel()


async def _collect(client: Client, seen: dict[str, list[int]]) -> None:
    async for event in client.watch():
        seen[event.order_id].append(event.version)


async def test_a_notifier_that_restarts_is_come_back_to() -> None:
    async with connected(HeldBackLog(PARTITIONS)) as (client, notifier):
        order = await notifier.requested(USER)
        told: list[Event] = []

        async def watch() -> None:
            async for event in client.watch(order.order.id):
                told.append(event)  # noqa: PERF401 - what came so far is looked at

        watching = asyncio.create_task(watch())
        await eventually(lambda: len(told) == 1)
        await notifier.hub.drain()
        await notifier.happens(order, *JOURNEY)
        notifier.hub.start_over()
        await watching
        assert [event.version for event in told] == ALL


async def test_a_spread_out_time_to_come_back_is_kept() -> None:
    async with connected(HeldBackLog(PARTITIONS)) as (client, _):
        watching = Watching(client._transport, None)
        await watching._after_close(4001, "restarting, reconnect in 2500 ms", "")
        assert watching._wait_s == 2.5


async def test_a_socket_that_has_lasted_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a quiet account, hour after hour: the next is not waited for longer each time."""
    failures: list[int] = []
    came_back = asyncio.Event()

    def pause(tried: int) -> float:
        failures.append(tried)
        came_back.set()
        return 0.01

    monkeypatch.setattr(watching, "pause", pause)
    async with connected(HeldBackLog(PARTITIONS)) as (client, notifier):
        collecting, reached = asyncio.create_task(_collect(client, defaultdict(list))), notifier.hub._reached
        for _ in range(3):
            await eventually(lambda: any(one.live for one in notifier.hub.listeners))
            await eventually(lambda: reached._at and not reached._ahead)  # else it is told no heartbeat
            await notifier.hub.beat()
            await notifier.hub.drain()
            notifier.hub.start_over()
            await came_back.wait()
            came_back.clear()
        collecting.cancel()
    assert failures == [1, 1, 1]


async def test_who_waits_behind_others_for_his_order_does_not_go_to_the_end_of_the_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    came_back: list[int] = []

    def pause(tried: int) -> float:
        came_back.append(tried)
        return 0.01

    monkeypatch.setattr(watching, "pause", pause)
    monkeypatch.setattr(transport, "ANSWER_S", 0.5)
    async with connected(HeldBackLog(PARTITIONS)) as (client, notifier):
        order = await notifier.requested(USER)

        async def others_are_read_for() -> None:
            await asyncio.sleep(1)  # longer than an answer may take

        notifier.views.before = others_are_read_for
        assert (await anext(client.watch(order.order.id))).version == 1
    assert not came_back


async def test_what_will_never_be_let_in_is_told_at_once() -> None:
    async with connected(HeldBackLog(PARTITIONS)) as (client, _):
        with pytest.raises(ApiError) as refused:
            await anext(client.watch("not-one"))
        assert refused.value.code == "order_not_found"


async def test_every_answer_has_a_name() -> None:
    async with connected(HeldBackLog(PARTITIONS)) as (client, _):
        with pytest.raises(ApiError) as refused:
            await client.order("not-one")
        assert client.request_id == refused.value.request_id != ""


async def test_a_watch_that_has_lasted_as_long_as_its_key_may_is_followed_by_the_next() -> None:
    """As an API key's: the socket ends after an hour, and the key is as good as before."""
    log, let_in = HeldBackLog(PARTITIONS), 0

    def for_a_moment(token: str) -> Claims:
        nonlocal let_in
        let_in += 1
        claims = verify_token(token, SECRET)
        return replace(claims, expires_at=datetime.now(UTC) + timedelta(seconds=0.2)) if let_in == 1 else claims

    async with running(log, LIMITS, for_a_moment) as notifier:
        tunnels = Tunnels(notifier.url.rpartition("/api/")[0])
        async with gateway(log=log, tunnels=tunnels) as http, Client(http.url, token=http.token) as client:
            order = await notifier.requested(USER)
            told = client.watch(order.order.id)
            assert (await anext(told)).version == 1
            following = asyncio.ensure_future(anext(told))
            await eventually(lambda: let_in == 2 or following.done())
            await notifier.happens(order, *JOURNEY)
            assert [(await following).version, *[event.version async for event in told]] == ALL[1:]


@pytest.mark.parametrize(
    "trouble", [Unreachable("no answer"), ApiError({"status": 503, "code": "log_unavailable", "retryable": True})]
)
async def test_what_cannot_be_caught_up_with_now_is_come_back_to_and_leaves_nothing_out(
    trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a reset the history of one order is there, and that of the next is not for a while."""
    log = HeldBackLog(PARTITIONS)
    async with connected(log) as (client, notifier):
        orders = [await notifier.requested(USER) for _ in range(2)]
        seen: dict[str, list[int]] = defaultdict(list)
        collecting = asyncio.create_task(_collect(client, seen))
        await eventually(lambda: any(one.live for one in notifier.hub.listeners))
        ask, histories = client._transport.ask, 0

        async def sometimes(method: str, path: str, *asked: Any, **more: Any) -> Any:
            nonlocal histories
            histories += path.endswith("/events")
            if path.endswith("/events") and histories == 2:
                raise trouble
            return await ask(method, path, *asked, **more)

        monkeypatch.setattr(client._transport, "ask", sometimes)
        log.released.clear()
        for order in orders:
            await notifier.happens(order, *JOURNEY)
        log.failure = LogMismatch("a hole")
        log.released.set()
        await eventually(lambda: collecting.done() or all(seen[one.order.id][-1:] == [7] for one in orders))
        assert seen == {one.order.id: ALL[1:] for one in orders}
        collecting.cancel()


async def test_a_watch_of_all_orders_outlives_one_that_is_not_there_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that does not sync each write may lose an order that was told of: after that comes a reset."""
    log = HeldBackLog(PARTITIONS)
    async with connected(log) as (client, notifier):
        lost, going_on = [await notifier.requested(USER) for _ in range(2)]
        seen: dict[str, list[int]] = defaultdict(list)
        collecting = asyncio.create_task(_collect(client, seen))
        await eventually(lambda: any(one.live for one in notifier.hub.listeners))
        ask = client._transport.ask

        async def without_it(method: str, path: str, *asked: Any, **more: Any) -> Any:
            if path.endswith(lost.order.id):
                raise ApiError({"status": 404, "code": "order_not_found"})
            return await ask(method, path, *asked, **more)

        monkeypatch.setattr(client._transport, "ask", without_it)
        log.released.clear()
        await notifier.happens(going_on, *JOURNEY)
        log.failure = LogMismatch("a hole")
        log.released.set()
        await eventually(lambda: collecting.done() or seen[going_on.order.id] == ALL[1:])
        assert not collecting.done()
        collecting.cancel()
