"""A local chain running inside a test, and a client of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse, ClientSession

from libs.service.health import Health, serve
from libs.venues.tokens import TOKENS
from services.localnet.app import create_app
from services.localnet.node import Node
from services.localnet.storage import open_storage
from services.localnet.trouble import Trouble
from tests.waiting import eventually
from tests.wallet import Wallet

SOL, USDC = TOKENS["SOL"].mint, TOKENS["USDC"].mint
TEN_SOL = 10 * 10**9


class World:
    """A client of one running local chain."""

    def __init__(self, session: ClientSession, base: str, node: Node) -> None:
        self.session, self.base, self.node = session, base, node
        self.wallet = Wallet()

    async def body(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        async with self.session.request(method, self.base + path, **kwargs) as response:
            return response.status, await _json(response)

    async def rpc(self, method: str, *params: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
        status, answer = await self.body("POST", "/", json=request)
        assert status == 200
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
        return answer["result"] if "result" in answer else answer["error"]

    async def signed_swap(self, venue: str = "raydium", reference: str = "order-1", **changes: Any) -> str:
        query = {"inputMint": SOL, "outputMint": USDC, "amount": str(TEN_SOL), "slippageBps": "50"}
        _, quote = await self.body("GET", f"/venues/{venue}/quote", params=query)
        request = {"quoteResponse": quote | changes, "userPublicKey": self.wallet.address, "reference": reference}
        _, built = await self.body("POST", f"/venues/{venue}/swap", json=request)
        return self.wallet.sign(built["swapTransaction"])

    async def send(self, transaction: str, **options: Any) -> Any:
        return await self.rpc("sendTransaction", transaction, {"encoding": "base64", **options})

    async def landed(self, signature: str) -> Any:
        async def status() -> Any:
            return (await self.rpc("getSignatureStatuses", [signature]))["value"][0]

        return await eventually(status, what="the transaction lands")


async def _json(response: ClientResponse) -> Any:
    return await response.json() if response.status != 204 else None


@asynccontextmanager
async def running(folder: Path, slot_ms: int = 0) -> AsyncIterator[World]:
    stop, health = asyncio.Event(), Health()
    with open_storage(folder) as storage:
        node = Node(storage, Trouble(1), seed=1, slot_ms=slot_ms)
        async with serve(create_app(node, health), "127.0.0.1", 0) as port, ClientSession() as session:
            making = asyncio.create_task(node.run(stop))
            try:
                yield World(session, f"http://127.0.0.1:{port}", node)
            finally:
                stop.set()
                await making
