"""What aiohttp alone can do: a server that answers POST with a constant. `python -m tests.bench.hello`."""

import asyncio
import sys
import time
from contextlib import suppress

import orjson
import uvloop
from aiohttp import web

from libs.service.health import serve
from tests.bench.client import request_bytes
from tests.bench.cpu import CpuMeter, spent
from tests.bench.figures import Result, latencies_ms, per_second
from tests.bench.load import Sent, send_all, unhurried
from tests.bench.users import TRADES, Place, Request, order_body

BODY = b'{"orderId":"00000000-0000-7000-8000-000000000000","status":"PENDING"}'
LIFE_MAX_S = 120
WITHIN_S = 60
now = time.perf_counter


async def hello_posts(count: int, connections: int) -> Result:
    """POSTs to such a server, by the client that measures the gateway."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.hello", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout
    assert server.stdin
    try:
        place = Place("127.0.0.1", int(await asyncio.wait_for(server.stdout.readline(), WITHIN_S)))
        order = request_bytes(place.header, "POST", "/api/orders", orjson.dumps(order_body(*TRADES[0])), "x" * 200)
        cpu = CpuMeter({"hello": server.pid})
        sent, before, began = Sent(), cpu.read(), now()
        async with asyncio.timeout(WITHIN_S):
            await send_all(place, unhurried([Request(order, 0)] * count), sent, connections)
        used = spent(before, cpu.read())["hello"]
    finally:
        server.stdin.close()
        await server.wait()
    return {
        "per_s": per_second(count, sent.last_answer - began),
        "post_ms": latencies_ms(sent.answered_after),
        "server_cpu_ms_per_post": round(used / count * 1_000, 3),
    }


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
