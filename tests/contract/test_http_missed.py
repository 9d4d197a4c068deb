"""`GET /api/events?cursor=`: what happened since, for whoever only asks now and then."""

import asyncio
import pkgutil
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from libs.events.ids import Cursor, Position, partition_of_user
from libs.events.log import Entry, Only, Snapshot
from libs.events.memory_log import MemoryLog
from libs.events.redis_log import open_redis_log
from libs.service.shared import open_shared
from services.gateway import limits
from tests.builders import a_request, routing_started, then
from tests.contract.http_gateway import PARTITIONS, Client, gateway
from tests.fault.own_redis import server
from tests.servers import flush_redis
from tests.waiting import eventually


async def story(log: MemoryLog, user: str, events: int) -> list[str]:
    """One order a pair of events; gives their ids."""
    made: list[str] = []
    for _ in range(events // 2):
        step, now = a_request(PARTITIONS, user)
        await log.commit(step)
        step2, _ = then(now, routing_started())
        await log.commit(step2)
        made += [step.events[0].id, step2.events[0].id]
    return made


def ids(body: dict[str, Any]) -> list[str]:
    return [f"{event['orderId']}/{event['version']}" for event in body["events"]]


async def page(client: Client, cursor: str, limit: int = 50) -> dict[str, Any]:
    answer = await client.get(f"/api/events?cursor={cursor}&limit={limit}")
    assert answer.status == 200, answer
    return dict(answer.body)


@pytest.mark.parametrize("limit", [1, 3, 10, 200])
async def test_pages_go_on_where_the_last_one_ended(limit: int) -> None:
    log = MemoryLog(PARTITIONS)
    other = next(
        n for n in map(str, range(99)) if partition_of_user(n, PARTITIONS) == partition_of_user("user-1", PARTITIONS)
    )
    async with gateway(log=log) as client:
        first = (await client.get("/api/events")).body
        assert first["events"] == []
        made = await story(log, "user-1", 6)
        await story(log, other, 8)
        made += await story(log, "user-1", 4)
        told: list[str] = []
        cursor = first["cursor"]
        for _ in range(30):
            body = await page(client, cursor, limit)
            told += ids(body)
            if body["cursor"] == cursor:
                break
            cursor = body["cursor"]
    assert told == made


async def test_a_cursor_that_cannot_be_gone_on_from_is_gone() -> None:
    log = MemoryLog(PARTITIONS)
    async with gateway(log=log) as client:
        await story(log, "user-1", 2)
        mine = partition_of_user("user-1", PARTITIONS)
        for cursor in (
            "nonsense",
            str(Cursor("0000", mine, Position(1, 1))),
            str(Cursor(log.epoch, (mine + 1) % PARTITIONS, Position(1, 1))),
            str(Cursor(log.epoch, mine, Position(1, 99))),
        ):
            answer = await client.get(f"/api/events?cursor={cursor}")
            assert (answer.status, answer.code) == (410, "cursor_gone")


class Forgetful(MemoryLog):
    """Its orders ended long ago, and the archive let go of their beginnings."""

    async def find_many(self, _order_ids: Sequence[str]) -> dict[str, Snapshot]:
        return {}


async def test_events_of_an_order_that_is_gone_are_gone_with_it() -> None:
    log = Forgetful(PARTITIONS)
    async with gateway(log=log) as client:
        before = (await client.get("/api/events")).body["cursor"]
        await story(log, "user-1", 2)
        answer = await client.get(f"/api/events?cursor={before}")
        assert (answer.status, answer.code) == (410, "cursor_gone")
        now = (await client.get("/api/events")).body["cursor"]
        assert (await page(client, now))["events"] == []


class Reopened(MemoryLog):
    """Another log is open before the orders of what was read are found."""

    now = "the first"

    @property
    def epoch(self) -> str:
        return self.now

    async def find_many(self, order_ids: Sequence[str]) -> dict[str, Snapshot]:
        self.now = "the second"
        return await super().find_many(order_ids)


async def test_a_cursor_is_of_the_log_that_was_read_also_where_another_one_is_open_already() -> None:
    log = Reopened(PARTITIONS)
    async with gateway(log=log) as client:
        before = (await client.get("/api/events")).body["cursor"]
        await story(log, "user-1", 2)
        told = await page(client, before)
        cursors = [told["cursor"], *(event["cursor"] for event in told["events"])]
        assert {Cursor.parse(cursor).epoch for cursor in cursors} == {"the first"}


class ReopenedMeanwhile(Reopened):
    """Another log is open when the history of an order has been read."""

    async def history(self, order_id: str) -> list[Entry]:
        found = await super().history(order_id)
        self.now = "the second"
        return found


@pytest.mark.parametrize("path", ["{}/events", "{}?expand=events"])
async def test_so_are_the_cursors_in_an_orders_history(path: str) -> None:
    async with gateway(log=ReopenedMeanwhile(PARTITIONS)) as client:
        order_id = (await client.post()).body["orderId"]
        (event,) = (await client.get(f"/api/orders/{path.format(order_id)}")).body["events"]
        assert Cursor.parse(event["cursor"]).epoch == "the first"


class ReopenedBefore(Reopened):
    """Another log is open before what followed the cursor is read."""

    async def read(
        self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
    ) -> list[Entry]:
        self.now = "the second"
        return await super().read(after, count, block_ms, only)


async def test_what_stands_behind_a_cursor_in_another_log_is_not_told() -> None:
    """Something else may stand before it there, which would be left out unsaid."""
    log = ReopenedBefore(PARTITIONS)
    async with gateway(log=log) as client:
        before = (await client.get("/api/events")).body["cursor"]
        await story(log, "user-1", 2)
        answer = await client.get(f"/api/events?cursor={before}")
        assert (answer.status, answer.code) == (410, "cursor_gone")


@pytest.mark.parametrize("place", ["0--5", "99999999999999999999999-1", "18446744073709551616-0"])
async def test_a_cursor_no_redis_could_read_is_gone_and_not_a_log_that_is_away(redis_url: str, place: str) -> None:
    await asyncio.to_thread(flush_redis, redis_url)
    async with open_redis_log(redis_url, PARTITIONS) as log, gateway(log=log) as client:
        await log.start(create=True)
        for _ in range(2):
            await client.post()
        mine = partition_of_user("user-1", PARTITIONS)
        answer = await client.get(f"/api/events?cursor={log.epoch}:{mine}:{place}")
        assert (answer.status, answer.code) == (410, "cursor_gone")


class SlowlyRead(MemoryLog):
    """Nothing of it is read before it is `released`."""

    def __init__(self) -> None:
        super().__init__(PARTITIONS)
        self.released, self.reading = asyncio.Event(), Counter[int]()

    async def read(
        self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
    ) -> list[Entry]:
        self.reading.update([*after])
        await self.released.wait()
        self.reading.subtract([*after])
        return await super().read(after, count, block_ms, only)


async def test_what_one_user_asks_to_be_read_is_read_a_few_at_once_and_keeps_nobody_else_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = SlowlyRead()
    monkeypatch.setattr(limits, "READ_FREELY", 0)
    monkeypatch.setattr(limits, "TURN_WAIT_S", None)
    mine = partition_of_user("user-1", PARTITIONS)
    other = next(name for name in map(str, range(99)) if partition_of_user(name, PARTITIONS) != mine)
    async with gateway(log=log) as client:
        cursor = (await client.get("/api/events")).body["cursor"]
        others = client.other(other)
        cursor_of_other = (await others.get("/api/events")).body["cursor"]
        await story(log, "user-1", 4)
        await story(log, other, 4)
        asking = [asyncio.create_task(page(client, cursor)) for _ in range(limits.READERS_AT_ONCE + 3)]
        asking.append(asyncio.create_task(page(others, cursor_of_other)))
        await eventually(lambda: log.reading[partition_of_user(other, PARTITIONS)] == 1)
        assert log.reading[mine] == limits.READERS_OF_USER
        log.released.set()
        assert [len(told["events"]) for told in await asyncio.gather(*asking)] == [4] * len(asking)


async def test_who_asks_for_more_than_is_read_for_him_in_time_is_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = SlowlyRead()
    monkeypatch.setattr(limits, "READ_FREELY", 0)
    monkeypatch.setattr(limits, "TURN_WAIT_S", 0.01)
    monkeypatch.setattr(limits, "READERS_OF_USER", 1)
    async with gateway(log=log) as client:
        cursor = (await client.get("/api/events")).body["cursor"]
        await story(log, "user-1", 2)
        first = asyncio.create_task(page(client, cursor))
        await eventually(lambda: log.reading.total() == 1)
        answer = await client.get(f"/api/events?cursor={cursor}")
        assert (answer.status, answer.code, answer.headers["Retry-After"]) == (429, "rate_limited", "1")
        log.released.set()
        assert len((await first)["events"]) == 2


async def test_that_others_ask_for_much_is_not_taken_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    log = SlowlyRead()
    monkeypatch.setattr(limits, "READ_FREELY", 0)
    monkeypatch.setattr(limits, "ROOM_WAIT_S", 0.01)
    monkeypatch.setattr(limits, "READERS_AT_ONCE", 1)
    monkeypatch.setattr(limits, "READ_DEADLINE_S", 1.0)
    async with gateway(log=log) as client:
        others = client.other("user-2")
        cursors = [(await one.get("/api/events")).body["cursor"] for one in (client, others)]
        await story(log, "user-1", 2)
        await story(log, "user-2", 2)
        reading = asyncio.create_task(client.get(f"/api/events?cursor={cursors[0]}"))
        await eventually(lambda: log.reading.total() == 1)
        answer = await others.get(f"/api/events?cursor={cursors[1]}")
        assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "busy", "1")
        log.released.set()
        await reading


async def test_who_asks_for_little_waits_for_nobody_who_asks_for_much(monkeypatch: pytest.MonkeyPatch) -> None:
    log = SlowlyRead()
    monkeypatch.setattr(limits, "READ_FREELY", 2)
    monkeypatch.setattr(limits, "READERS_AT_ONCE", 1)
    mine = partition_of_user("user-1", PARTITIONS)
    other = next(name for name in map(str, range(99)) if partition_of_user(name, PARTITIONS) != mine)
    async with gateway(log=log) as client:
        askers = [client, client.other(other)]
        cursors = [(await one.get("/api/events")).body["cursor"] for one in askers]
        await story(log, "user-1", 4)
        await story(log, other, 2)
        asking = [asyncio.create_task(page(one, cursor)) for one, cursor in zip(askers, cursors, strict=True)]
        await eventually(lambda: log.reading.total() == 2)
        log.released.set()
        assert [len(told["events"]) for told in await asyncio.gather(*asking)] == [4, 2]


async def test_a_redis_that_stays_silent_is_not_taken_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (
        "libs.events.redis_client.CONNECT_TIMEOUT_S",
        "libs.events.redis_client.REPLY_TIMEOUT_S",
        "libs.events.redis_client.READER_TIMEOUT_S",
        "libs.service.shared.ANSWER_SECONDS_MAX",
        "services.gateway.limits.READ_DEADLINE_S",
    ):
        monkeypatch.setattr(limit, pkgutil.resolve_name(limit) / 2)  # enough of it to tell them apart
    monkeypatch.setattr(limits, "RATE_LEASE_S", 0)  # as for who has not asked for a while
    async with (
        server(()) as redis,
        open_redis_log(redis.url, PARTITIONS) as log,
        open_shared(redis.url) as shared,
        gateway(log=log, shared=shared) as client,
    ):
        await log.start(create=True)
        cursor = (await client.get("/api/events")).body["cursor"]
        order = (await client.post()).body["orderId"]
        assert len((await page(client, cursor))["events"]) == 1
        assert redis.process
        redis.process.send_signal(signal.SIGSTOP)
        paths = ("events", f"events?cursor={cursor}", "orders", f"orders/{order}", f"orders/{order}/events")
        answers = await asyncio.gather(*(client.get(f"/api/{path}") for path in paths))
        assert [(one.status, one.code) for one in answers] == [(503, "log_unavailable")] * len(paths)
