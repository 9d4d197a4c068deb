"""The world outside over HTTP: chain RPC at /, venues under /venues, and /admin for tests and people."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from libs.service.health import Health, health_routes
from services.localnet.admin import Admin
from services.localnet.answers import JSON, answer, read_object
from services.localnet.node import Node
from services.localnet.quotes import Refused, Venue
from services.localnet.rpc import Rpc, unhealthy
from services.localnet.trouble import VENUES

BODY_BYTES_MAX = 4 * 1024 * 1024
ENTRIES_MAX = 256

Handler = Callable[[web.Request], Awaitable[web.Response]]


def create_app(node: Node, health: Health) -> web.Application:
    """Every route; `node` must be running for anything to be executed."""
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.add_routes([*health_routes(health), web.post("/", _rpc(node)), *Admin(node).routes()])
    for name in VENUES:
        app.add_routes(_venue_routes(Venue(name, node.chain), node))
    return app


def _rpc(node: Node) -> Handler:
    rpc = Rpc(node)

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        await _delay(node, "rpc")
        if "rpc" in node.trouble.outages:
            return web.Response(body=unhealthy(), status=503, content_type=JSON)
        said = await rpc.answer(body)
        return web.Response(status=204) if said is None else web.Response(body=said, content_type=JSON)

    return handle


def _venue_routes(venue: Venue, node: Node) -> list[web.RouteDef]:
    base = f"/venues/{venue.name}"

    async def quote(request: web.Request) -> web.Response:
        return answer(venue.quote(dict(request.query)))

    async def swap(request: web.Request) -> web.Response:
        return answer(venue.swap(await read_object(request)))

    async def quotes(request: web.Request) -> web.Response:
        return answer({"quotes": _each(venue.quote, await read_object(request), "quotes")})

    async def swaps(request: web.Request) -> web.Response:
        return answer({"swaps": _each(venue.swap, await read_object(request), "swaps")})

    def reachable(handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            await _delay(node, venue.name)
            if venue.name in node.trouble.outages:
                return answer({"error": f"{venue.name} is out of service.", "errorCode": "OUT_OF_SERVICE"}, 503)
            try:
                return await handler(request)
            except Refused as refused:
                return answer(refused.body(), refused.status)

        return handle

    return [
        web.get(f"{base}/quote", reachable(quote)),
        web.post(f"{base}/quotes", reachable(quotes)),
        web.post(f"{base}/swap", reachable(swap)),
        web.post(f"{base}/swaps", reachable(swaps)),
    ]


def _each(one: Callable[[Any], dict[str, Any]], body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = body.get(name)
    if not isinstance(entries, list) or not 1 <= len(entries) <= ENTRIES_MAX:
        raise Refused("INVALID_REQUEST", f"{name} must be a list of 1 to {ENTRIES_MAX} entries.")
    answers: list[dict[str, Any]] = []
    for entry in entries:
        try:
            answers.append(one(entry))
        except Refused as refused:
            answers.append(refused.body())
    return answers


async def _delay(node: Node, target: str) -> None:
    seconds = node.trouble.latency(target)
    if seconds:
        await asyncio.sleep(seconds)
