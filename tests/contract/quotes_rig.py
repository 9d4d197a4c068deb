"""A gateway in front of venues whose prices can move."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from libs.events.memory_log import MemoryLog
from tests.contract.fake_venue import FakeVenue, a_quote, running_world
from tests.contract.http_gateway import Client, gateway

ASKED = "/api/quotes?tokenIn=SOL&tokenOut=USDC&amount=10"


class Market(FakeVenue):
    """A venue with a price that can move: micro USDC for the whole amount."""

    def __init__(self, out: int) -> None:
        super().__init__(lambda question: web.json_response(a_quote(question, self.out)))
        self.out = out


@asynccontextmanager
async def market(*venues: FakeVenue, log: MemoryLog | None = None, **more: Any) -> AsyncIterator[Client]:
    async with running_world() as world:
        known = [await world.venue(venue, f"venue-{place}") for place, venue in enumerate(venues)]
        async with gateway(venues=known, log=log, **more) as client:
            yield client
