"""The WebSocket protocol on the wire: pings, closes, broken frames, and peers that say nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import cast

import pytest

from libs.events.memory_log import MemoryLog
from services.notifier.app import PATH
from services.notifier.conversation import Conversation
from services.notifier.frames import CLOSE, PING, PONG, TEXT
from tests.contract.notifier_rig import LIMITS, PARTITIONS, UPGRADE, Notifier, running
from tests.unit.test_client_frames import sent
from tests.waiting import eventually


@dataclass
class Raw:
    """A client that sends bytes and reads frames."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def frame(self) -> tuple[int, bytes]:
        first, length = await self.reader.readexactly(2)
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        return first & 0x0F, await self.reader.readexactly(length)

    async def closed_with(self) -> int:
        while (frame := await self.frame())[0] != CLOSE:
            pass
        return int.from_bytes(frame[1][:2], "big")


@asynccontextmanager
async def connected(notifier: Notifier, user: str = "alice", behind: bytes = b"") -> AsyncIterator[Raw]:
    host, _, port = notifier.url.split("/")[2].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"GET {PATH} HTTP/1.1", f"Host: {host}", *([f"Authorization: Bearer {user}"] if user else [])]
    lines += [f"{name}: {value}" for name, value in UPGRADE.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + behind)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


async def test_a_ping_is_answered_with_what_it_carries(notifier: Notifier) -> None:
    async with connected(notifier) as raw:
        assert (await raw.frame())[0] == TEXT
        raw.writer.write(sent(PING, b"are you there?"))
        assert await raw.frame() == (PONG, b"are you there?")


async def test_a_close_is_answered_with_its_code_and_ends_the_connection(notifier: Notifier) -> None:
    async with connected(notifier) as raw:
        await raw.frame()
        raw.writer.write(sent(CLOSE, b"\x0f\xa0bye"))
        assert await raw.closed_with() == 4000
        assert await raw.reader.read() == b""
    await eventually(lambda: not notifier.hub.listeners)


@pytest.mark.parametrize(
    ("data", "code"), [(b"\x81\x01x", 1002), (sent(TEXT, b"\xff"), 1007), (sent(CLOSE, b"\x03"), 1002)]
)
async def test_a_broken_frame_closes_with_the_code_of_the_standard(notifier: Notifier, data: bytes, code: int) -> None:
    async with connected(notifier) as raw:
        await raw.frame()
        raw.writer.write(data + sent(PING, b"too late"))
        assert await raw.closed_with() == code
        assert await raw.reader.read() == b""


async def test_what_a_hasty_client_sends_behind_its_request_is_answered(notifier: Notifier) -> None:
    said = sent(TEXT, b'{"op":"auth","token":"alice"}') + sent(TEXT, b'{"op":"ping"}')
    async with connected(notifier, user="", behind=said) as raw:
        assert (await raw.frame())[1].startswith(b'{"type":"snapshot"')
        assert (await raw.frame())[1] == b'{"type":"pong"}'


async def test_more_messages_than_are_answered_at_once_are_all_answered_in_order(notifier: Notifier) -> None:
    order = await notifier.requested()
    asked = b'{"op":"subscribe","orderIds":["%s"]}' % order.order.id.encode()
    many = (sent(TEXT, asked) + sent(TEXT, b'{"op":"ping"}')) * 40
    async with notifier.connect("alice", order.order.id) as ws:
        await ws.receive_json()
        for _ in range(40):
            await ws.send_str(asked.decode())
            await ws.send_str('{"op":"ping"}')
        said = [(await ws.receive_json())["type"] for _ in range(40 * 3)]
    assert [kind for kind in said if kind != "snapshot"] == ["subscribed", "pong"] * 40
    async with connected(notifier, behind=many) as raw:
        kinds = [(await raw.frame())[1][:16] for _ in range(81)]
    assert kinds[0].startswith(b'{"type":"snapsho')
    assert kinds[1:] == [b'{"type":"error",', b'{"type":"pong"}'] * 40


async def test_a_peer_that_answers_no_ping_is_cut_off_and_one_that_does_is_kept() -> None:
    async with (
        running(MemoryLog(PARTITIONS), replace(LIMITS, heartbeat_s=0.3)) as notifier,
        connected(notifier) as dead,
        notifier.connect("bob") as alive,
    ):
        await alive.receive_json()
        listening = asyncio.create_task(alive.receive_json())  # and so answering pings
        assert [(await dead.frame())[0] for _ in range(2)] == [TEXT, PING]
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await dead.frame()
        await alive.send_json({"op": "ping"})
        assert await listening == {"type": "pong"}


async def test_a_peer_that_does_not_answer_its_close_is_cut_off() -> None:
    async with (
        running(MemoryLog(PARTITIONS), replace(LIMITS, close_grace_s=0.1)) as notifier,
        connected(notifier) as raw,
    ):
        await raw.frame()
        await notifier.hub.drain()
        await eventually(lambda: not notifier.hub.listeners)
        assert await raw.closed_with() == 4001


async def test_who_leaves_while_his_orders_are_read_is_forgotten(notifier: Notifier) -> None:
    leaving = asyncio.Event()

    async def leave() -> None:
        raw.writer.transport.abort()
        await eventually(lambda: not notifier.hub.listeners)
        leaving.set()

    async with connected(notifier, user="") as raw:
        notifier.views.between = leave
        raw.writer.write(sent(TEXT, b'{"op":"auth","token":"alice"}'))
        await leaving.wait()
    async with notifier.connect("alice") as ws:
        await ws.receive_json()
        assert len(list(notifier.hub.listeners)) == 1


async def test_who_is_not_read_while_he_is_answered_is_not_taken_for_gone() -> None:
    limits = replace(LIMITS, heartbeat_s=0.4, unheard_messages_max=1)
    async with running(MemoryLog(PARTITIONS), limits) as notifier:
        first, second = await notifier.requested(), await notifier.requested()
        async with notifier.connect("alice", first.order.id) as ws:
            await ws.receive_json()

            async def slowly() -> None:
                await asyncio.sleep(4 * limits.heartbeat_s)

            notifier.views.before = slowly
            for _ in range(4):
                await ws.send_json({"op": "subscribe", "orderIds": [second.order.id]})
            told = [(await ws.receive_json())["type"] for _ in range(8)]
            assert told == ["snapshot", "subscribed"] * 4


async def test_of_who_says_more_than_is_answered_no_more_is_read() -> None:
    limits, may_go_on = replace(LIMITS, unheard_messages_max=3), asyncio.Event()
    async with running(MemoryLog(PARTITIONS), limits) as notifier:
        first, second = await notifier.requested(), await notifier.requested()
        async with notifier.connect("alice", first.order.id) as ws:
            await ws.receive_json()
            (listener,) = notifier.hub.listeners
            transport = cast("Conversation", listener._wire).transport

            async def slowly() -> None:
                await may_go_on.wait()

            notifier.views.before = slowly
            for _ in range(limits.unheard_messages_max + 2):
                await ws.send_json({"op": "subscribe", "orderIds": [second.order.id]})
            await eventually(lambda: not transport.is_reading(), within_s=30)
            may_go_on.set()
            await eventually(transport.is_reading, within_s=30)


async def test_who_pings_and_takes_no_answer_is_cut_off() -> None:
    limits = replace(LIMITS, unsent_bytes_max=64 * 1024, close_grace_s=0.1, heartbeat_s=600)
    async with running(MemoryLog(PARTITIONS), limits) as notifier, connected(notifier) as raw:
        await raw.frame()
        many = sent(PING, b"x" * 125) * 1_000
        for _ in range(200):
            raw.writer.write(many)
            try:
                await asyncio.wait_for(raw.writer.drain(), 0.05)
            except TimeoutError:
                pass
            except ConnectionError:
                break
            if not notifier.hub.listeners:
                break
        await eventually(lambda: not notifier.hub.listeners, within_s=10)
