"""The local world as public nodes and aggregators are: nothing of ours on top of Solana's and Jupiter's protocols.

No lists of quotes or swaps and only short ones of calls, no `reference`, the minimum by `slippageBps`, long ways, and
now and then a request too many.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from libs.service.health import serve

CALLS_MAX = 10
TOO_MANY_RATE = 0.05
WAY_S = (0.01, 0.1)


@dataclass
class PublicWorld:
    """`localnet`: where the local world is. `refused`: requests answered with 429, and lists that were too long."""

    localnet: str
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    refused: list[int] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._far_away])
        app.add_routes(
            [
                web.post("/", self._rpc),
                web.get("/{venue}/quote", self._quote),
                web.post("/{venue}/swap", self._swap),
            ]
        )
        return app

    @web.middleware
    async def _far_away(self, request: web.Request, handler: Any) -> web.StreamResponse:
        await asyncio.sleep(self.chance.uniform(*WAY_S))
        if self.chance.random() < TOO_MANY_RATE:
            self.refused.append(429)
            return web.json_response({"error": "Too Many Requests"}, status=429)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _rpc(self, request: web.Request) -> web.Response:
        body = await request.json()
        if isinstance(body, list) and len(body) > CALLS_MAX:
            self.refused.append(413)
            return web.json_response({"jsonrpc": "2.0", "id": None, "error": {"code": -32600}}, status=413)
        return await self._asked("POST", "/", json=body)

    async def _quote(self, request: web.Request) -> web.Response:
        answer = await self._asked("GET", f"/venues/{request.match_info['venue']}/quote", params=request.query)
        body = json.loads(answer.body)  # type: ignore[arg-type]  # bytes: `_asked` made it so
        body.pop("networkFeeLamports", None)
        return web.json_response(body | {"timeTaken": 0.02, "platformFee": None}, status=answer.status)

    async def _swap(self, request: web.Request) -> web.Response:
        body = await request.json()
        body.pop("reference", None)
        quote = body["quoteResponse"]
        least = int(quote["outAmount"]) * (10_000 - quote["slippageBps"]) // 10_000
        quote["otherAmountThreshold"] = str(least)
        return await self._asked("POST", f"/venues/{request.match_info['venue']}/swap", json=body)

    async def _asked(self, method: str, path: str, **what: Any) -> web.Response:
        async with aiohttp.ClientSession(self.localnet) as session, session.request(method, path, **what) as answer:
            return web.Response(body=await answer.read(), status=answer.status, content_type="application/json")


@asynccontextmanager
async def public_world(localnet: str) -> AsyncIterator[tuple[PublicWorld, str]]:
    """The world, and where it is."""
    world = PublicWorld(localnet)
    async with serve(world.app(), "127.0.0.1", 0, drain_s=0) as port:
        yield world, f"http://127.0.0.1:{port}"
