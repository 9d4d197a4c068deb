"""SIGKILL of the local chain's process: what it showed, it still knows, and does not do again."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession

from deploy.local.ports import Claims
from libs.venues.tokens import TOKENS
from tests.waiting import eventually
from tests.wallet import Wallet

ROOT = Path(__file__).parents[2]
SOL, USDC = TOKENS["SOL"].mint, TOKENS["USDC"].mint
ORDERS = 40


@asynccontextmanager
async def process(folder: Path, port: int, session: ClientSession) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m services.localnet`, ready; killed with SIGKILL at the end of the block."""
    environment = os.environ | {"DATA_DIR": str(folder), "LOCALNET_PORT": str(port), "LOCALNET_SLOT_MS": "0"}
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.localnet", cwd=ROOT, env=environment, stderr=asyncio.subprocess.DEVNULL
    )

    async def ready() -> Any:
        assert started.returncode is None
        try:
            async with session.get(f"http://127.0.0.1:{port}/readyz") as response:
                return response.status == 200
        except ClientError:
            return False

    try:
        await eventually(ready, what="localnet is ready")
        yield started
    finally:
        started.send_signal(signal.SIGKILL)
        await started.wait()


async def test_what_was_settled_before_a_kill_is_settled_once_after_it(tmp_path: Path, claimed: Claims) -> None:
    wallet, port = Wallet(), claimed.free("127.0.0.1")
    async with ClientSession() as session:

        async def call(method: str, path: str, body: Any = None) -> Any:
            async with session.request(method, f"http://127.0.0.1:{port}{path}", json=body) as response:
                return await response.json()

        async def send(transactions: list[str]) -> list[str]:
            batch = [
                {"jsonrpc": "2.0", "id": at, "method": "sendTransaction", "params": [item, {"encoding": "base64"}]}
                for at, item in enumerate(transactions)
            ]
            return [answer["result"] for answer in await call("POST", "/", batch)]

        async def statuses(signatures: list[str]) -> list[Any]:
            request = {"jsonrpc": "2.0", "id": 1, "method": "getSignatureStatuses", "params": [signatures]}
            seen: list[Any] = (await call("POST", "/", request))["result"]["value"]
            return seen

        async with process(tmp_path, port, session):
            entry = {"inputMint": SOL, "outputMint": USDC, "amount": "10000000000"}
            quotes = await call("POST", "/venues/raydium/quotes", {"quotes": [entry] * ORDERS})
            swaps = [
                {"quoteResponse": quote, "userPublicKey": wallet.address, "reference": f"order-{at}"}
                for at, quote in enumerate(quotes["quotes"])
            ]
            built = await call("POST", "/venues/raydium/swaps", {"swaps": swaps})
            transactions = [wallet.sign(swap["swapTransaction"]) for swap in built["swaps"]]
            signatures = await send(transactions[: ORDERS // 2])

            async def landed() -> Any:
                return None not in await statuses(signatures)

            await eventually(landed, what="the first half lands")
            shown = await statuses(signatures)
            await send(transactions[ORDERS // 2 :])  # killed at once: these may or may not have landed

        async with process(tmp_path, port, session):
            kept = await statuses(signatures)
            assert [(item["slot"], item["err"]) for item in kept] == [(item["slot"], item["err"]) for item in shown]
            signatures = await send(transactions)
            await eventually(landed, what="every transaction has landed")
            assert await call("GET", "/admin/settled") == {"references": ORDERS, "settled_more_than_once": []}
