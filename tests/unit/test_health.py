"""How what is served ends."""

import asyncio

import aiohttp
from aiohttp import web

from libs.service.health import serve


async def test_without_time_to_drain_a_request_in_hand_does_not_hold_up_the_end() -> None:
    asked = asyncio.Event()

    async def never(_request: web.Request) -> web.Response:
        asked.set()
        await asyncio.Event().wait()
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/", never)])
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        async with serve(app, "127.0.0.1", 0, drain_s=0) as port:
            waiting = asyncio.create_task(session.get(f"http://127.0.0.1:{port}/"))
            await asked.wait()
        await asyncio.gather(waiting, return_exceptions=True)
