"""Order entry on a WebSocket: the same checks, keys, rates and commits as over HTTP, answered in order."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import (
    ClientSession,
    ClientWebSocketResponse,
)

from libs.events.log import Outcome, Step
from libs.events.memory_log import MemoryLog
from libs.service.shared import Rate, open_shared
from libs.service.tokens import issue_token
from services.gateway import limits
from services.gateway.overload import Overload
from tests.contract.entry_rig import PATH, asked, closed_with, connect, place
from tests.contract.http_gateway import ORDER, PARTITIONS, SECRET, Client, gateway
from tests.contract.notifier_rig import UPGRADE
from tests.waiting import eventually


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(PARTITIONS)


@pytest.fixture
async def client(log: MemoryLog) -> AsyncIterator[Client]:
    async with gateway(log=log) as client:
        yield client


async def test_orders_are_in_the_log_when_they_are_answered_and_answered_in_order(client: Client) -> None:
    async with connect(client) as ws:
        answers = await asked(ws, *(place(str(n), amount=n + 1) for n in range(200)))
    assert [answer["id"] for answer in answers] == [str(n) for n in range(200)]
    assert {(answer["type"], answer["op"], answer["status"]) for answer in answers} == {("result", "order.place", 202)}
    assert [answer["order"]["amount"] for answer in answers] == [str(n + 1) for n in range(200)]
    for answer in answers[::50]:
        assert (await client.get(f"/api/orders/{answer['order']['orderId']}")).status == 200


async def test_numbers_keep_every_digit(client: Client) -> None:
    async with connect(client) as ws:
        await ws.send_str('{"op":"order.place","order":{"tokenIn":"SOL","tokenOut":"USDC","amount":9007199.254740993}}')
        assert (await ws.receive_json())["order"]["amount"] == "9007199.254740993"


async def test_a_number_that_nothing_can_hold_does_not_leave_the_messages_behind_it_unanswered(client: Client) -> None:
    async with connect(client) as ws:
        await ws.send_str('{"op":"order.place","order":{"amount":1e1000000000000000000}}')
        await ws.send_json({"op": "ping", "id": "p"})
        assert (await ws.receive_json(timeout=5))["code"] == "bad_message"
        assert (await ws.receive_json(timeout=5))["id"] == "p"


async def test_a_key_makes_one_order_by_either_way(client: Client) -> None:
    over_http = await client.post(Idempotency_Key="k")
    async with connect(client) as ws:
        first, second, other = await asked(
            ws, place("1", "k"), place("2", clientOrderId="k2"), place("3", "k", amount=3)
        )
        again = await asked(ws, *[place("4", clientOrderId="k2")] * 20)
    assert (first["order"]["orderId"], first["replayed"]) == (over_http.body["orderId"], True)
    assert {one["order"]["orderId"] for one in again} == {second["order"]["orderId"]}
    assert (other["status"], other["problem"]["code"]) == (422, "idempotency_key_reused")


async def test_what_is_wrong_is_told_by_pointer_and_the_rest_goes_on(client: Client) -> None:
    async with connect(client) as ws:
        wrong, nothing, right = await asked(
            ws, place("1", amount=0, limitPrice=-1), {"op": "order.place", "id": "2"}, place("3")
        )
    assert (wrong["status"], wrong["problem"]["code"]) == (422, "invalid_body")
    assert [error["pointer"] for error in wrong["problem"]["errors"]] == ["#/amount", "#/limitPrice"]
    assert nothing["problem"]["errors"][0]["code"] == "object_expected"
    assert right["status"] == 202


async def test_orders_are_cancelled(client: Client) -> None:
    async with connect(client) as ws:
        (placed,) = await asked(ws, place("1"))
        order_id = placed["order"]["orderId"]
        cancelled, again, foreign = await asked(
            ws, *({"op": "order.cancel", "id": str(n), "orderId": one} for n, one in enumerate([order_id] * 2 + ["x"]))
        )
    assert [cancelled["order"]["status"], again["order"]["status"]] == ["CANCELLED"] * 2
    assert (foreign["status"], foreign["problem"]["code"]) == (404, "order_not_found")


async def test_while_no_more_orders_are_taken_none_comes_in_by_any_way_and_each_can_be_cancelled(
    log: MemoryLog,
) -> None:
    overload = Overload(log, wait_s_max=-1, memory_max_bytes=10**15)
    async with gateway(log=log, overload=overload) as client, connect(client) as ws:
        (placed,) = await asked(ws, place("1"))
        await overload.measure()
        cancel = {"op": "order.cancel", "orderId": placed["order"]["orderId"]}
        refused, cancelled = await asked(ws, place("2"), cancel)
        many = await client.post({"orders": [ORDER]}, "/api/orders/batch")
        assert len(await log.recent(client.user, None, 9)) == 1
    assert (refused["status"], refused["problem"]["code"], refused["problem"]["retryAfter"]) == (503, "overloaded", 5)
    assert (many.status, many.code) == (503, "overloaded")
    assert cancelled["order"]["status"] == "CANCELLED"


async def test_odd_messages_are_answered_in_their_place(client: Client) -> None:
    async with connect(client) as ws:
        for odd in ("", "[]", "{", '{"op":"fly"}', '{"op":"ping","id":3}', '{"op":"ping","id":"p"}'):
            await ws.send_str(odd)
        await ws.send_bytes(b"\x00")
        told = [await ws.receive_json(timeout=60) for _ in range(7)]
    bad = ("error", "bad_message")
    codes = [(one["type"], one.get("code")) for one in told]
    assert codes == [bad, bad, bad, ("error", "unknown_op"), bad, ("pong", None), bad]


async def test_rates_are_those_of_http(redis_url: str) -> None:
    async with open_shared(redis_url) as shared, gateway(shared=shared, rate=Rate(20, 60)) as client:
        client.user = f"user-{id(client)}"
        token = issue_token(client.user, SECRET)
        async with connect(client, token) as ws:
            answers = await asked(ws, *(place(str(n)) for n in range(22)))
    assert [answer["status"] for answer in answers] == [202] * 20 + [429] * 2
    assert answers[-1]["problem"]["retryAfter"] >= 1


class Slow(MemoryLog):
    """Commits wait until they are let through."""

    def __init__(self) -> None:
        super().__init__(PARTITIONS)
        self.waiting, self.through = asyncio.Event(), asyncio.Event()

    async def commit(self, step: Step) -> Outcome:
        self.waiting.set()
        await self.through.wait()
        return await super().commit(step)


async def test_a_restart_answers_what_is_in_hand_and_tells_when_to_come_back() -> None:
    log = Slow()
    async with ClientSession() as session:
        async with gateway(log=log) as client:
            headers = {"Authorization": f"Bearer {client.token}"}
            ws = await session.ws_connect(client.url + PATH, headers=headers)
            await ws.send_json(place("1"))
            await log.waiting.wait()
            answer = asyncio.create_task(ws.receive_json())
            asyncio.get_running_loop().call_later(0.1, log.through.set)
            ended = asyncio.create_task(_after(answer, ws))
        code, reason = await ended
    assert answer.result()["status"] == 202
    assert len(await log.recent(client.user, None, 9)) == 1
    assert code == 4001
    assert reason.startswith("restarting, reconnect in ")


async def _after(answer: asyncio.Task[Any], ws: ClientWebSocketResponse) -> tuple[int | None, str]:
    await answer
    return await closed_with(ws)


async def test_half_a_character_is_answered_in_its_place_and_the_rest_goes_on(client: Client) -> None:
    half = r"\ud800"
    async with connect(client) as ws:
        for odd in ('{"op":"ping","id":"%s"}', '{"op":"auth","id":"1","token":"%s"}', '{"op":"auth","token":"swk_%s"}'):
            await ws.send_str(odd % half)
        name, token, key = [await ws.receive_json(timeout=5) for _ in range(3)]
        (placed,) = await asked(ws, place("2"))
    assert name["code"] == "bad_message"
    assert [one["problem"]["code"] for one in (token, key)] == ["token_invalid"] * 2
    assert placed["status"] == 202


@asynccontextmanager
async def deaf(client: Client) -> AsyncIterator[asyncio.StreamWriter]:
    """A socket that asks until nothing more is taken from it, and reads none of the answers."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", int(client.url.rpartition(":")[2])))
    _reader, writer = await asyncio.open_connection(sock=sock, limit=64)
    head = "".join(f"{name}: {value}\r\n" for name, value in UPGRADE.items())
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {client.token}\r\n{head}\r\n".encode())
    said = b'{"op":"ping","id":"%s"}' % (b"x" * 255)
    with suppress(TimeoutError):
        while True:
            writer.write((b"\x81\xfe" + len(said).to_bytes(2, "big") + bytes(4) + said) * 100)
            async with asyncio.timeout(0.5):
                await writer.drain()
    try:
        yield writer
    finally:
        writer.transport.abort()


async def test_who_takes_no_answers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRY_UNREAD_S", 1.0)

    def is_cut_off() -> bool:
        writer.write(b"\x8a\x80\x00\x00\x00\x00")  # only who writes hears of it
        return writer.transport.is_closing()

    async with gateway() as client, deaf(client) as writer:
        await eventually(is_cut_off)


async def test_who_takes_no_answers_holds_up_no_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINGER_S", 0.1)
    async with asyncio.timeout(30), AsyncExitStack() as kept, gateway() as client:
        await kept.enter_async_context(deaf(client))
