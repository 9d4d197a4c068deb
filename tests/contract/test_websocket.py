"""What a subscriber is promised: a snapshot, then every event once and in order, and only of the user's own orders."""

import asyncio
import socket
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError

from libs.events.errors import LogUnavailable, PositionGap
from libs.events.log import Snapshot
from libs.events.memory_log import MemoryLog
from services.notifier.app import PATH
from tests.builders import attempt_failed, route_selected, routing_started
from tests.contract.notifier_rig import (
    LIMITS,
    PARTITIONS,
    UPGRADE,
    HeldBackLog,
    Notifier,
    assert_no_gap_no_repeat,
    closed_with,
    running,
    until_terminal,
)
from tests.journeys import JOURNEY
from tests.waiting import eventually

# The story of an order


async def test_a_socket_gets_a_snapshot_and_then_every_event(notifier: Notifier) -> None:
    order = await notifier.requested()
    async with notifier.connect("alice", order.order.id) as ws:
        snapshot = await ws.receive_json()
        await notifier.happens(order, *JOURNEY)
        events = [await ws.receive_json() for _ in JOURNEY]

    assert snapshot["type"] == "snapshot"
    assert [(o["orderId"], o["version"], o["status"]) for o in snapshot["orders"]] == [(order.order.id, 1, "PENDING")]
    assert [(e["type"], e["status"], e["version"]) for e in events] == [
        ("RoutingStarted", "ROUTING", 2),
        ("AttemptFailed", "RETRYING", 3),
        ("RoutingStarted", "ROUTING", 4),
        ("RouteSelected", "BUILDING", 5),
        ("TxSubmitted", "SUBMITTED", 6),
        ("TxConfirmed", "CONFIRMED", 7),
    ]
    assert all(set(e) == {"cursor", "orderId", "version", "type", "status", "time", "data"} for e in events)
    assert events[-1]["data"]["amountOut"] == "1499"
    positions = [int(e["cursor"].rpartition("-")[2]) for e in events]
    assert positions == list(range(positions[0], positions[0] + len(events)))


async def test_a_socket_without_an_order_carries_all_orders_of_the_user_and_nobody_elses(notifier: Notifier) -> None:
    user, other = "carol", "dave"
    old = await notifier.requested(user)
    async with notifier.connect(user) as ws:
        snapshot = await ws.receive_json()
        await notifier.happens(await notifier.requested(other), routing_started())
        new = await notifier.happens(await notifier.requested(user), routing_started())
        await notifier.happens(old, routing_started())
        events = [await ws.receive_json() for _ in range(3)]

    assert [o["orderId"] for o in snapshot["orders"]] == [old.order.id]
    assert [(e["orderId"], e["version"]) for e in events] == [(new.order.id, 1), (new.order.id, 2), (old.order.id, 2)]
    assert events[0]["data"]["amount"] == "10"


@pytest.mark.parametrize("moment", ["before", "between"])
@pytest.mark.parametrize("of_one_order", [True, False], ids=["one order", "all orders"])
async def test_what_happens_while_the_state_is_read_comes_once(
    notifier: Notifier, moment: str, of_one_order: bool
) -> None:
    order = await notifier.requested("erin")
    now = order

    async def interrupt() -> None:
        nonlocal now
        now = await notifier.happens_and_is_told(now, routing_started(), attempt_failed())

    # The token comes as a message, so the state is read once only: when the socket joins.
    async with notifier.connect(order_id=order.order.id if of_one_order else None) as ws:
        setattr(notifier.views, moment, interrupt)
        await notifier.sign_in(ws, "erin")
        snapshot = await ws.receive_json()
        told = [o["version"] for o in snapshot["orders"] if o["orderId"] == order.order.id]
        await notifier.happens(now, routing_started(2))
        while told[-1] < 4:
            told.append((await ws.receive_json())["version"])

    assert told == ([1, 2, 3, 4] if moment == "between" else [3, 4])


async def test_events_the_snapshot_has_but_the_tail_has_not_reached_are_not_told_again() -> None:
    log = HeldBackLog(PARTITIONS)
    async with running(log) as notifier:
        order = await notifier.requested()
        log.released.clear()
        order = await notifier.happens(order, routing_started(), attempt_failed())
        async with notifier.connect("alice") as ws:
            snapshot = await ws.receive_json()
            log.released.set()
            await notifier.happens(order, routing_started(2))
            event = await ws.receive_json()

    assert [o["version"] for o in snapshot["orders"]] == [3]
    assert event["version"] == 4


async def test_many_sockets_that_come_while_orders_move_miss_nothing_and_see_nothing_twice(notifier: Notifier) -> None:
    orders = [await notifier.requested() for _ in range(8)]

    async def watch(order_id: str, all_orders: bool) -> None:
        async with notifier.connect("alice", None if all_orders else order_id) as ws:
            assert_no_gap_no_repeat(await until_terminal(ws, order_id))

    async def live(order: Snapshot) -> None:
        for body in JOURNEY:
            order = await notifier.happens(order, body)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for order in orders:
            for number in range(6):
                group.create_task(watch(order.order.id, all_orders=number % 2 == 0))
            group.create_task(live(order))
            await asyncio.sleep(0)


async def test_many_sockets_on_one_order_all_get_the_same(notifier: Notifier) -> None:
    order = await notifier.requested()

    async def watch(ready: asyncio.Event) -> list[str]:
        async with notifier.connect("alice", order.order.id) as ws:
            await ws.receive()
            ready.set()
            return [(await ws.receive_str()) for _ in JOURNEY]

    signals = [asyncio.Event() for _ in range(LIMITS.sockets_per_user_max)]
    watchers = [asyncio.create_task(watch(signal)) for signal in signals]
    await asyncio.gather(*(signal.wait() for signal in signals))
    await notifier.happens(order, *JOURNEY)
    told = await asyncio.gather(*watchers)

    assert all(one == told[0] for one in told)


# What clients may say


@pytest.mark.parametrize(
    ("said", "code"),
    [("{}", "bad_message"), ("[1]", "bad_message"), ("}", "bad_message"), ('{"op":"fly"}', "unknown_op")],
)
async def test_an_unknown_message_is_answered_and_the_socket_lives(notifier: Notifier, said: str, code: str) -> None:
    async with notifier.connect("alice") as ws:
        await ws.receive_json()
        await ws.send_str(said)
        answer = await ws.receive_json()
        assert (answer["type"], answer["code"]) == ("error", code)
        await ws.send_json({"op": "ping"})
        assert await ws.receive_json() == {"type": "pong"}


async def test_a_message_too_big_closes_the_socket(notifier: Notifier) -> None:
    async with notifier.connect("alice") as ws:
        await ws.receive_json()
        await ws.send_str("x" * (LIMITS.message_bytes_max + 1))
        assert (await closed_with(ws))[0] == 1009


# Trouble


async def test_a_slow_socket_is_closed_and_nobody_else_waits() -> None:
    limits = replace(LIMITS, unsent_bytes_max=64 * 1024, close_grace_s=60, heartbeat_s=600)
    async with running(MemoryLog(PARTITIONS), limits) as notifier:
        order = await notifier.requested()
        with await never_reading(notifier, order.order.id) as deaf:
            async with notifier.connect("alice", order.order.id) as other:
                await other.receive_json()
                told, sent = 1, 1
                while not any(subscriber.closed for subscriber in notifier.hub.listeners):
                    order = await notifier.happens(order, *(route_selected() for _ in range(100)))
                    sent += 100
                    while told < sent:
                        message = await other.receive_json()
                        assert message["version"] == told + 1
                        told += 1
                assert await asyncio.to_thread(close_code_of, deaf) == 4008


async def test_missing_entries_reset_every_socket() -> None:
    log = HeldBackLog(PARTITIONS)
    async with running(log) as notifier:
        order = await notifier.requested()
        async with notifier.connect("alice", order.order.id) as one, notifier.connect("alice") as every:
            await one.receive_json(), await every.receive_json()
            log.failure = PositionGap(0, 1, 3)
            order = await notifier.happens(order, routing_started())
            for ws in (one, every):
                seen: list[dict[str, Any]] = []
                while not seen or seen[-1]["type"] != "snapshot":
                    seen.append(await ws.receive_json())
                assert "reset" in [message["type"] for message in seen]
                assert seen[-1]["orders"][0]["version"] == 2
            await notifier.happens(order, attempt_failed())
            assert (await one.receive_json())["version"] == 3
            assert (await every.receive_json())["version"] == 3


async def test_while_the_log_is_away_sockets_stay_and_lose_nothing() -> None:
    log = HeldBackLog(PARTITIONS)
    async with running(log) as notifier:
        order = await notifier.requested()
        async with notifier.connect("alice", order.order.id) as ws:
            await ws.receive_json()
            log.failure = LogUnavailable("Redis is loading")
            await notifier.happens(order, routing_started(), attempt_failed())
            assert [(await ws.receive_json())["version"] for _ in range(2)] == [2, 3]


async def test_a_restart_closes_with_a_code_that_lets_clients_come_back(notifier: Notifier) -> None:
    async with notifier.connect("alice") as ws:
        await ws.receive_json()
        draining = asyncio.create_task(notifier.hub.drain())
        code, reason = await closed_with(ws)
        await draining
        assert code == 4001
        assert reason.startswith("restarting, reconnect in ")
        with pytest.raises(WSServerHandshakeError, match="503"):
            await notifier.session.ws_connect(notifier.url, headers={"Authorization": "Bearer alice"})


async def never_reading(notifier: Notifier, order_id: str) -> socket.socket:
    """A subscribed socket whose owner does not read, with small buffers on its side."""

    def upgrade() -> socket.socket:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(30)
        host, _, port = notifier.url.split("/")[2].partition(":")
        raw.connect((host, int(port)))
        lines = [f"GET {PATH}?orderId={order_id} HTTP/1.1", f"Host: {host}", "Authorization: Bearer alice"]
        lines += [f"{name}: {value}" for name, value in UPGRADE.items()]
        raw.sendall("\r\n".join([*lines, "", ""]).encode())
        assert raw.recv(12) == b"HTTP/1.1 101"
        return raw

    raw = await asyncio.to_thread(upgrade)
    await eventually(lambda: list(notifier.hub.listeners))
    return raw


def close_code_of(raw: socket.socket) -> int:
    """Read everything and take the code from the close frame at its end."""
    received = b""
    while chunk := raw.recv(1 << 16):
        received += chunk
    _, _, frame = received.rpartition(b"\x88")
    return int.from_bytes(frame[1:3], "big")
