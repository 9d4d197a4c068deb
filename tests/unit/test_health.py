"""Who is let in by what is served, and how it ends."""

import asyncio
import resource

import aiohttp
import pytest
from aiohttp import web

from libs.service.door import OF_OUR_OWN
from libs.service.health import serve
from tests.contract.http_gateway import Run, both_loops


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


HALF_A_REQUEST = b"GET / HTTP/1.1\r\nHost: "
HALF_A_BODY = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"
MANY_THAT_ARE_NOT_READ = b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n" * 8


@both_loops
@pytest.mark.parametrize("said", [b"", HALF_A_REQUEST, HALF_A_BODY, MANY_THAT_ARE_NOT_READ])
def test_connections_that_want_nothing_keep_nobody_else_out(
    said: bytes, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = OF_OUR_OWN
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (most, most))

    async def story() -> None:
        asked, answered = asyncio.Event(), asyncio.Event()

        async def lasting(_request: web.Request) -> web.Response:
            asked.set()
            await answered.wait()
            return web.Response(text="to the end")

        async def long(_request: web.Request) -> web.Response:
            return web.Response(body=bytes(4_000_000))

        async def body(request: web.Request) -> web.Response:
            return web.Response(body=await request.read())

        app = web.Application()
        app.add_routes([web.get("/", lasting), web.get("/long", long), web.post("/body", body)])
        async with serve(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as session, asyncio.timeout(60):
            in_hand = asyncio.create_task(session.get(f"http://127.0.0.1:{port}/"))
            await asked.wait()
            silent = []
            for _ in range(2 * most):
                silent.append(await asyncio.open_connection("127.0.0.1", port, limit=1))
                silent[-1][1].write(said)
            late = [await asyncio.open_connection("127.0.0.1", port) for _ in range(most)]
            await until_cut_off(silent[0])
            answered.set()
            response = await in_hand
            assert await response.text() == "to the end"
            for _, writer in [*silent, *late]:
                writer.transport.abort()

    run(story())


ASKS = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@both_loops
@pytest.mark.parametrize("said", [b"", ASKS])
def test_who_asks_again_and_again_goes_after_who_does_not(
    said: bytes, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (OF_OUR_OWN, OF_OUR_OWN))

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def story() -> None:
        app = web.Application()
        app.add_routes([web.get("/", hello)])
        async with serve(app, "127.0.0.1", 0) as port, asyncio.timeout(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            others = []
            for number in range(4 * OF_OUR_OWN):
                if number % (OF_OUR_OWN // 2) == 0:
                    writer.write(ASKS)
                    assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 OK")
                others.append(await asyncio.open_connection("127.0.0.1", port))
                others[-1][1].write(said)
                if said:
                    await others[-1][0].readuntil(b"hello")
            await until_cut_off(others[0])
            for _, one in [*others, (reader, writer)]:
                one.transport.abort()

    run(story())


async def until_cut_off(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    reader, _ = connection
    try:
        while await reader.read(1 << 20):
            pass
    except ConnectionResetError:
        pass
