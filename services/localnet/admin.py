"""`/admin`: how the world misbehaves, and what became of transactions. For tests and people only."""

import asyncio
from typing import Any

import structlog
from aiohttp import web

from libs.venues.bins import BinPool
from libs.venues.book import Pool, mints
from libs.venues.concentrated import ConcentratedPool
from services.localnet.answers import answer, read_object
from services.localnet.node import Node
from services.localnet.quotes import Refused
from services.localnet.storage import Stored
from services.localnet.trouble import TroubleError

log = structlog.get_logger()


class Admin:
    """Every handler."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/admin/trouble", self.show_trouble),
            web.put("/admin/trouble", self.change_trouble),
            web.delete("/admin/trouble", self.clear_trouble),
            web.get("/admin/settled", self.settled),
            web.get("/admin/pools", self.pools),
        ]

    async def show_trouble(self, _request: web.Request) -> web.Response:
        return answer(self._node.trouble.as_dict())

    async def change_trouble(self, request: web.Request) -> web.Response:
        trouble = self._node.trouble
        try:
            fields = await read_object(request)
            expire = _wants_expiry(fields)
            trouble.update(fields)
        except TroubleError as error:
            return answer({"error": str(error), "errorCode": "INVALID_REQUEST"}, 400)
        except Refused as refused:
            return answer(refused.body(), refused.status)
        if expire:
            await self._node.expire_blockhashes()
        log.info("trouble_changed", expire_blockhashes=expire, **trouble.as_dict())
        return answer(trouble.as_dict())

    async def clear_trouble(self, _request: web.Request) -> web.Response:
        self._node.trouble.clear()
        log.info("trouble_cleared")
        return answer(self._node.trouble.as_dict())

    async def settled(self, request: web.Request) -> web.Response:
        """Transactions of a reference; without one, how many references were settled, and which more than once."""
        reference, storage = request.query.get("reference"), self._node.storage
        if reference is not None:
            return answer([_settled(item) for item in storage.by_reference(reference)])
        count, repeated = await asyncio.to_thread(storage.settled_summary)
        return answer({"references": count, "settled_more_than_once": repeated})

    async def pools(self, _request: web.Request) -> web.Response:
        chain = self._node.chain
        listed = [(chain.listings[address], pool) for address, pool in chain.pools.items()]
        return answer({"slot": chain.slot, "height": chain.height, "pools": [
            {"venue": listing.venue, "pair": f"{listing.base}/{listing.quote}", **_pool(pool)}
            for listing, pool in listed
        ]})  # fmt: skip


def _wants_expiry(fields: dict[str, Any]) -> bool:
    """Taken out of `fields`: it happens once, while trouble stays."""
    expire = fields.pop("expire_blockhashes", False)
    if not isinstance(expire, bool):
        raise TroubleError("expire_blockhashes must be true or false.")
    return expire


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
