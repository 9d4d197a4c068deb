"""What aiohttp alone can do: a server that answers POST with a constant. `python -m tests.bench.hello`."""

import asyncio
import sys
from contextlib import suppress

import uvloop
from aiohttp import web

from libs.service.health import serve

BODY = b'{"orderId":"00000000-0000-7000-8000-000000000000","status":"PENDING"}'
LIFE_MAX_S = 120


async def hello(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=BODY, status=202, content_type="application/json")


async def main() -> None:
    """Serve on any free port of loopback, which is printed, until the parent closes our input."""
    app = web.Application()
    app.add_routes([web.post("/api/orders", hello)])
    async with serve(app, "127.0.0.1", 0) as port:
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(sys.stdin.read), LIFE_MAX_S)


if __name__ == "__main__":
    uvloop.run(main())
