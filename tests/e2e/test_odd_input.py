"""Nothing that is sent is too odd: bodies and frames as a fuzzer makes them, and nobody else notices."""

import asyncio
import json
import os
import random
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.gateway.operations import OPERATIONS
from tests.clients import TERMINAL, signed_up
from tests.e2e.client_rig import system_of
from tests.waiting import eventually

FUZZ_S = float(os.environ.get("FUZZ_S", "5"))

BODIES: list[Any] = [
    {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1"},
    {"tokenIn": "SOL", "tokenOut": "USDC", "amount": 1, "limitPrice": 2, "metadata": {"a": "b"}},
    {"email": "a@b.cd", "password": "x" * 10},
    {"orders": [{"tokenIn": "SOL", "tokenOut": "USDC", "amount": 1}]},
    {"orderIds": ["01a205c4-6fe7-7367-94f4-2ccd80d6a003"]},
    {"refreshToken": "swr_01a205c4-6fe7-7367-94f4-2ccd80d6a003_x"},
    {"name": "k", "scopes": ["orders:read"]},
    {"op": "auth", "token": "x"},
    {"op": "subscribe", "orderIds": ["01a205c4-6fe7-7367-94f4-2ccd80d6a003"]},
    {"op": "order.place", "id": "1", "order": {"tokenIn": "SOL", "tokenOut": "USDC", "amount": 1}},
    {"op": "order.cancel", "id": "2", "orderId": "01a205c4-6fe7-7367-94f4-2ccd80d6a003"},
]
ODD: list[Any] = [
    None, True, -1, 1e308, "", "\x00", "😀" * 50, [], {}, [[[]]], "1" * 70, {"a": {"b": None}}, "\ud800",
    {"\x00": "\x00"}, {"a": "\ud800"}, "1e-99999999", "1e99999999", "0.000000000000000000001", "2030-01-01T00:00:00Z",
    "SOL", "GTC",
    "q1.x.y",
]  # fmt: skip
# Written as JSON numbers: no float could hold them.
HUGE = re.compile(rb'"(1e-?9+)"')


def mutated(chance: random.Random) -> bytes:
    body = json.loads(json.dumps(chance.choice(BODIES)))
    for _ in range(chance.randrange(4)):
        part = chance.choice([body, *(inner for inner in body.values() if isinstance(inner, dict))])
        part[chance.choice([*part, "odd", "", "limitPrice", "metadata"])] = json.loads(json.dumps(chance.choice(ODD)))
    raw = HUGE.sub(rb"\1", json.dumps(body).encode("utf-8", "surrogatepass"))
    if chance.random() < 0.3:
        at = chance.randrange(len(raw))
        raw = (
            raw[:at]
            + bytes(chance.randrange(256) for _ in range(chance.randrange(8)))
            + raw[at + chance.randrange(9) :]
        )
    return raw


@pytest.mark.timeout(FUZZ_S + 300)
async def test_no_body_and_no_frame_is_too_odd(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("FUZZ_SEED", "7")))
    posts = [one for one in OPERATIONS if one.method == "post" and one.path != "/api/auth/signup"]
    asked = 0
    async with system_of(tmp_path / "data") as stack, signed_up(stack.base_url) as client:
        deadline = asyncio.get_running_loop().time() + FUZZ_S
        while asyncio.get_running_loop().time() < deadline:
            # Half of them to where most members mean something.
            path = chance.choice(["/api/orders", chance.choice(posts).path])
            raw = mutated(chance)
            async with client.session.post(path, data=raw, headers={"Content-Type": "application/json"}) as answer:
                assert answer.status < 500, (path, raw, await answer.text())
            asked += 1
            if asked % 20 == 0:
                await frames(client.session, chance)
        # And nobody else has noticed.
        order = await client.order()
        async with client.watch(order["orderId"]) as watch:
            await eventually(lambda: watch.ended(order["orderId"]) or watch.snapshot["orders"][0]["status"] in TERMINAL)
    assert asked > 50


async def frames(session: aiohttp.ClientSession, chance: random.Random) -> None:
    with suppress(aiohttp.ClientConnectionError):
        async with session.ws_connect(chance.choice(["/api/ws/orders", "/api/ws/entry"])) as ws:
            for _ in range(10):
                raw = mutated(chance)
                if chance.random() < 0.5:
                    await ws.send_str(raw.decode(errors="replace"))
                else:
                    await ws.send_bytes(raw)
            await ws.send_json({"op": "ping"})
            async for message in ws:
                if message.type is aiohttp.WSMsgType.TEXT and message.json()["type"] == "pong":
                    return
            assert ws.close_code in {4401, 1003, 1007, 1009}, ws.close_code
