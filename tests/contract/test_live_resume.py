"""Coming back: whoever gives the last cursor gets everything since, once, or an honest reset."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

import pytest
from aiohttp import WSServerHandshakeError

from libs.events.ids import Cursor, Position, partition_of_user
from libs.events.log import Entry, Only
from libs.events.memory_log import MemoryLog
from tests.builders import routing_started
from tests.contract.notifier_rig import (
    LIMITS,
    PARTITIONS,
    HeldBackLog,
    Notifier,
    running,
    versions_of,
)
from tests.journeys import JOURNEY
from tests.waiting import eventually


@pytest.mark.parametrize("of_one_order", [True, False], ids=["one order", "all orders"])
async def test_from_every_cursor_exactly_what_follows_it_comes(notifier: Notifier, of_one_order: bool) -> None:
    order = await notifier.requested()
    order_id = order.order.id
    asked = order_id if of_one_order else None
    async with notifier.connect("alice", asked) as ws:
        cursors = {1: (await ws.receive_json())["cursor"]}
        await notifier.happens(order, *JOURNEY)
        await notifier.happens(await notifier.requested("bob"), routing_started())
        for _ in JOURNEY:
            told = await ws.receive_json()
            cursors[told["version"]] = told["cursor"]
    assert len(cursors) == 7
    for version, cursor in cursors.items():
        async with notifier.connect("alice", asked, cursor=cursor) as ws:
            await ws.send_json({"op": "ping"})
            told = []
            while (body := await ws.receive_json())["type"] != "pong":
                told.append(body["version"])
            assert told == list(range(version + 1, 8))


async def test_coming_back_while_orders_move_misses_nothing_and_repeats_nothing(notifier: Notifier) -> None:
    order = await notifier.requested()
    async with notifier.connect("alice") as ws:
        cursor = (await ws.receive_json())["cursor"]

    async def live() -> None:
        now = order
        for body in JOURNEY:
            now = await notifier.happens(now, body)
            await asyncio.sleep(0.005)

    moving = asyncio.create_task(live())
    seen: list[int] = []
    while not seen or seen[-1] < 7:
        async with notifier.connect("alice", cursor=cursor) as ws:
            body = await ws.receive_json()
            seen.append(body["version"])
            cursor = body["cursor"]
    await moving
    assert seen == [2, 3, 4, 5, 6, 7]


async def test_what_happens_behind_the_history_while_that_is_read_is_told_behind_it() -> None:
    class Moving(MemoryLog):
        moves: Callable[[], Awaitable[object]] | None = None

        async def read(
            self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
        ) -> list[Entry]:
            entries = await super().read(after, count, block_ms, only)
            if not block_ms and self.moves:  # the tail would wait
                moves, self.moves = self.moves, None
                await moves()
            return entries

    log = Moving(PARTITIONS)
    async with running(log) as notifier:
        order = await notifier.requested()
        async with notifier.connect("alice") as ws:
            cursor = (await ws.receive_json())["cursor"]
        now = await notifier.happens(order, *JOURNEY[:2])
        log.moves = partial(notifier.happens_and_is_told, now, *JOURNEY[2:])
        async with notifier.connect("alice", cursor=cursor) as ws:
            async with asyncio.timeout(30):
                told = [(await ws.receive_json())["version"] for _ in JOURNEY]
    assert log.moves is None
    assert told == [2, 3, 4, 5, 6, 7]


async def test_what_the_tail_has_not_reached_is_told_once() -> None:
    log = HeldBackLog(PARTITIONS)
    async with running(log) as notifier:
        order = await notifier.requested()
        async with notifier.connect("alice") as ws:
            cursor = (await ws.receive_json())["cursor"]
        log.released.clear()
        order = await notifier.happens(order, routing_started())
        joining = asyncio.create_task(notifier.connect("alice", cursor=cursor).__aenter__())
        await asyncio.sleep(0.05)
        log.released.set()
        ws = await joining
        order = await notifier.happens(order, *JOURNEY[1:])
        assert await versions_of(ws, order.order.id, 7) == [2, 3, 4, 5, 6, 7]
        await ws.close()


@pytest.mark.parametrize("flaw", ["nonsense", "another log", "another user", "the future", "between two", "too old"])
async def test_a_cursor_that_proves_nothing_gives_a_reset_and_a_snapshot(flaw: str) -> None:
    log = MemoryLog(PARTITIONS)
    async with running(log, replace(LIMITS, resume_entries_max=3)) as notifier:
        order = await notifier.requested()
        async with notifier.connect("alice") as ws:
            first = Cursor.parse((await ws.receive_json())["cursor"])
        await notifier.happens(order, *JOURNEY)
        mine = partition_of_user("alice", PARTITIONS)
        tip = await log.tip(mine)
        cursor = {
            "nonsense": "what?",
            "another log": str(Cursor("0123", mine, tip)),
            "another user": str(Cursor(log.epoch, (mine + 1) % PARTITIONS, tip)),
            "the future": str(Cursor(log.epoch, mine, Position(tip.ms, tip.position + 5))),
            "between two": str(Cursor(log.epoch, mine, Position(tip.ms + 60_000, first.at.position))),
            "too old": str(first),
        }[flaw]
        async with notifier.connect("alice", cursor=cursor) as ws:
            reset, snapshot = await ws.receive_json(), await ws.receive_json()
    assert reset["type"] == "reset"
    assert reset["reason"]
    assert [o["version"] for o in snapshot["orders"]] == [7]


async def test_events_of_an_order_that_is_not_kept_any_more_are_not_left_out_unsaid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = MemoryLog(PARTITIONS)
    async with running(log) as notifier:
        order, mine = await notifier.requested(), partition_of_user("alice", PARTITIONS)
        cursor = str(Cursor(log.epoch, mine, await log.tip(mine)))
        await notifier.happens(order, routing_started())

        async def gone(_order_id: str) -> None:
            return None

        monkeypatch.setattr(notifier.views, "get", gone)
        async with asyncio.timeout(10), notifier.connect("alice", cursor=cursor) as ws:
            assert [(await ws.receive_json())["type"] for _ in range(2)] == ["reset", "snapshot"]


async def test_the_cursor_of_a_snapshot_is_of_its_reading_and_not_of_before_its_turn() -> None:
    log = MemoryLog(PARTITIONS)
    async with running(log, replace(LIMITS, snapshots_at_once=1)) as notifier:
        order, mine = await notifier.requested(), partition_of_user("alice", PARTITIONS)
        its_turn = asyncio.Event()

        async def others_wait() -> None:
            await its_turn.wait()

        notifier.views.before = others_wait
        async with asyncio.timeout(10), notifier.connect("alice"), notifier.connect("alice") as ws:
            await eventually(lambda: len(list(notifier.hub.listeners)) == 2)
            await asyncio.sleep(0.05)  # both have asked
            await notifier.happens(order, routing_started())
            its_turn.set()
            snapshot = await ws.receive_json()
            assert snapshot["orders"][0]["version"] == 2
            assert Cursor.parse(snapshot["cursor"]).at == await log.tip(mine)


async def test_a_heartbeat_carries_the_place_to_come_back_to(notifier: Notifier) -> None:
    async with notifier.connect("alice") as ws:
        await ws.receive_json()
        await notifier.requested("alice")
        told = await ws.receive_json()

        async def beaten() -> bool:
            await notifier.hub.beat()
            await ws.send_json({"op": "ping"})
            body = await ws.receive_json()
            if body["type"] == "pong":
                return False
            assert body == {"type": "heartbeat", "cursor": told["cursor"]}
            assert (await ws.receive_json())["type"] == "pong"
            return True

        await eventually(beaten)


async def test_a_heartbeat_is_not_behind_what_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    log, goes_on = MemoryLog(PARTITIONS), asyncio.Event()
    goes_on.set()
    read = log.read

    async def held_back(
        after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
    ) -> list[Entry]:
        entries = await read(after, count, block_ms, only)
        if block_ms:  # the tail alone waits for what comes
            await goes_on.wait()
        return entries

    monkeypatch.setattr(log, "read", held_back)
    async with running(log) as notifier:
        order = await notifier.requested()
        async with notifier.connect("alice") as ws:
            cursor = (await ws.receive_json())["cursor"]
        goes_on.clear()
        await notifier.happens(order, routing_started())
        async with notifier.connect("alice", cursor=cursor) as ws:
            told = await ws.receive_json()
            await notifier.hub.beat()
            await ws.send_json({"op": "ping"})
            assert (told["version"], (await ws.receive_json())["type"]) == (2, "pong")
            goes_on.set()


async def test_a_ticket_opens_one_socket(notifier: Notifier) -> None:
    order = await notifier.requested("tina")
    notifier.tickets.given.add("tina")
    async with notifier.connect(ticket="tina") as ws:
        assert [o["orderId"] for o in (await ws.receive_json())["orders"]] == [order.order.id]
    with pytest.raises(WSServerHandshakeError) as refused:
        await notifier.connect(ticket="tina").__aenter__()
    assert refused.value.status == 401


async def test_a_ticket_renews_a_socket(notifier: Notifier) -> None:
    notifier.tickets.given |= {"tina", "bob"}
    async with notifier.connect("tina") as ws:
        await ws.receive_json()
        await ws.send_json({"op": "auth", "ticket": "tina"})
        assert (await ws.receive_json())["type"] == "authenticated"
        await ws.send_json({"op": "auth", "ticket": "bob"})
        assert (await ws.receive()).data == 4401
