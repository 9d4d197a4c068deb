"""Limit orders on a real log, a market with one price, and a router at work on them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from libs.events.commands import request
from libs.events.ids import new_order_id
from libs.events.log import Committed, EventLog
from libs.events.model import OrderRequested, Status, Terms
from libs.events.order import Order
from libs.events.reactions import ROUTER
from libs.events.retry import RetryPolicy
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.quoting.answer import Answer, Quote
from libs.service.health import Health
from services.router.handlers import Router
from services.router.prices import PriceWatch
from tests.builders import SOL, USDC, as_one
from tests.waiting import eventually

PARTITIONS = 4
SELLS = 10**9
LIMITS = WorkerLimits(block_ms=20, timers_every_s=0.02)


class Market:
    """A venue with one price, in micro USDC per whole SOL."""

    name = "raydium"

    def __init__(self, price: int) -> None:
        self.price, self.asked = price, 0

    async def quote_many(self, orders: Sequence[Order]) -> list[Answer]:
        self.asked += 1
        return [
            Answer("raydium", 1, Quote(order.amount_in * self.price // 10**9, "pool", 1, SOL, 5_000, None, {}))
            for order in orders
        ]


async def placed(
    log: EventLog,
    least: int,
    *,
    sells: int = SELLS,
    seconds: float = 60,
    user: str = "ann",
    price: str | None = "1",
    tif: Any = "GTT",
) -> str:
    """Sells 1 SOL, unless said otherwise, for at least so many micro USDC."""
    now = datetime.now(UTC)
    body = OrderRequested(
        token_in="SOL",
        token_out="USDC",
        mint_in=SOL,
        mint_out=USDC,
        amount_in=sells,
        slippage_bps=50,
        expires_at=now + timedelta(seconds=seconds),
        terms=Terms(limit_price=price, min_out=least, time_in_force=tif),
    )
    step, made = request(body, order_id=new_order_id(0), user=user, source="gateway", now=now)
    assert isinstance(await log.commit(step), Committed)
    return made.order.id


@asynccontextmanager
async def routing(log: EventLog, market: Any) -> AsyncIterator[PriceWatch]:
    """A router at work; the watch looks when told."""
    stop = asyncio.Event()
    router = Router(as_one(market), RetryPolicy(3, 1, 5), lambda: datetime.now(UTC), lambda: 0.5)
    worker = Worker(
        log, ROUTER, router.handle, consumer="r", health=Health("log"), limits=LIMITS, handle_many=router.handle_many
    )
    working = asyncio.create_task(worker.run(stop))
    yield PriceWatch(log, as_one(market))
    stop.set()
    await working


async def becomes(log: EventLog, order_id: str, status: Status) -> Order:
    async def there() -> Order | None:
        held = await log.find(order_id)
        assert held
        assert held.order.status is status, held.order.status
        return held.order

    return await eventually(there, within_s=120)
