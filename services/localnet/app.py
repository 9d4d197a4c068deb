"""The world outside over HTTP: chain RPC at /, venues under /venues, and /admin for tests and people."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from aiohttp import web

from libs.service.health import Health, health_routes
from libs.venues.bins import BinPool
from libs.venues.book import Pool, mints
from libs.venues.concentrated import ConcentratedPool
from services.localnet.node import Node
from services.localnet.quotes import Refused, Venue
from services.localnet.rpc import Rpc, unhealthy
from services.localnet.storage import Stored
from services.localnet.trouble import VENUES, TroubleError

BODY_BYTES_MAX = 4 * 1024 * 1024
ENTRIES_MAX = 256
JSON = "application/json"

Handler = Callable[[web.Request], Awaitable[web.Response]]
log = structlog.get_logger()


def create_app(node: Node, health: Health) -> web.Application:
    """Every route; `node` must be running for anything to be executed."""
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.add_routes([*health_routes(health), web.post("/", _rpc(node)), *_admin_routes(node)])
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
        answer = await rpc.answer(body)
        return web.Response(status=204) if answer is None else web.Response(body=answer, content_type=JSON)

    return handle


def _venue_routes(venue: Venue, node: Node) -> list[web.RouteDef]:
    base = f"/venues/{venue.name}"

    async def quote(request: web.Request) -> web.Response:
        return _json(venue.quote(dict(request.query)))

    async def swap(request: web.Request) -> web.Response:
        return _json(venue.swap(await _object(request)))

    async def quotes(request: web.Request) -> web.Response:
        return _json({"quotes": _each(venue.quote, await _object(request), "quotes")})

    async def swaps(request: web.Request) -> web.Response:
        return _json({"swaps": _each(venue.swap, await _object(request), "swaps")})

    def reachable(handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            await _delay(node, venue.name)
            if venue.name in node.trouble.outages:
                return _json({"error": f"{venue.name} is out of service.", "errorCode": "OUT_OF_SERVICE"}, 503)
            try:
                return await handler(request)
            except Refused as refused:
                return _json(refused.body(), refused.status)

        return handle

    return [
        web.get(f"{base}/quote", reachable(quote)),
        web.post(f"{base}/quotes", reachable(quotes)),
        web.post(f"{base}/swap", reachable(swap)),
        web.post(f"{base}/swaps", reachable(swaps)),
    ]


def _admin_routes(node: Node) -> list[web.RouteDef]:
    async def show_trouble(_request: web.Request) -> web.Response:
        return _json(node.trouble.as_dict())

    async def change_trouble(request: web.Request) -> web.Response:
        try:
            fields = await _object(request)
            expire = _wants_expiry(fields)
            node.trouble.update(fields)
        except TroubleError as error:
            return _json({"error": str(error), "errorCode": "INVALID_REQUEST"}, 400)
        except Refused as refused:
            return _json(refused.body(), refused.status)
        if expire:
            await node.expire_blockhashes()
        log.info("trouble_changed", expire_blockhashes=expire, **node.trouble.as_dict())
        return _json(node.trouble.as_dict())

    async def clear_trouble(_request: web.Request) -> web.Response:
        node.trouble.clear()
        log.info("trouble_cleared")
        return _json(node.trouble.as_dict())

    async def settled(request: web.Request) -> web.Response:
        reference = request.query.get("reference")
        if reference is not None:
            return _json([_settled(item) for item in node.storage.by_reference(reference)])
        count, repeated = await asyncio.to_thread(node.storage.settled_summary)
        return _json({"references": count, "settled_more_than_once": repeated})

    async def pools(_request: web.Request) -> web.Response:
        chain = node.chain
        listed = [(chain.listings[address], pool) for address, pool in chain.pools.items()]
        return _json({"slot": chain.slot, "height": chain.height, "pools": [
            {"venue": listing.venue, "pair": f"{listing.base}/{listing.quote}", **_pool(pool)}
            for listing, pool in listed
        ]})  # fmt: skip

    return [
        web.get("/admin/trouble", show_trouble),
        web.put("/admin/trouble", change_trouble),
        web.delete("/admin/trouble", clear_trouble),
        web.get("/admin/settled", settled),
        web.get("/admin/pools", pools),
    ]


def _wants_expiry(fields: dict[str, Any]) -> bool:
    """Taken out of `fields`: it happens once, while trouble stays."""
    expire = fields.pop("expire_blockhashes", False)
    if not isinstance(expire, bool):
        raise TroubleError("expire_blockhashes must be true or false.")
    return expire


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


def _pool(pool: Pool) -> dict[str, Any]:
    first, second = mints(pool)
    common = {"address": pool.address, "mints": [first, second]}
    if isinstance(pool, BinPool):
        return common | {"activeBin": pool.active_id, "binStep": pool.bin_step, "bins": len(pool.bins),
                         "activeAmounts": [str(units) for units in pool.bins[pool.active_id]]}  # fmt: skip
    if isinstance(pool, ConcentratedPool):
        return common | {"tick": pool.tick, "tickSpacing": pool.tick_spacing, "sqrtPriceX64": str(pool.sqrt_price),
                         "liquidity": str(pool.liquidity), "feePpm": pool.fees.fee_ppm}  # fmt: skip
    return common | {"reserves": [str(pool.reserve_a), str(pool.reserve_b)], "feePpm": pool.fee_ppm}


def _settled(item: Stored) -> dict[str, Any]:
    return {"signature": item.transaction.signature, "slot": item.slot, "err": item.transaction.err}


async def _object(request: web.Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise Refused("INVALID_REQUEST", "The body must be a JSON object.")
    return body


async def _delay(node: Node, target: str) -> None:
    seconds = node.trouble.latency(target)
    if seconds:
        await asyncio.sleep(seconds)


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type=JSON)
