"""`swaplog journey` at an address where something else answers, or goes."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from libs.service.health import serve
from services.ops.__main__ import main
from services.ops.journey import journey
from services.ops.show import make_console
from services.ops.stack import EXIT_DIFFERS, EXIT_UNREACHABLE, EXIT_USAGE, Refusal

ORDER = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "10"}


async def a_page(_request: web.Request) -> web.Response:
    return web.Response(status=502, text="<h1>Bad Gateway</h1>", content_type="text/html")


async def silence(_request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    return web.Response()


async def an_account(_request: web.Request) -> web.Response:
    return web.json_response({"userId": "u", "token": "t"}, status=201)


async def a_farewell(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    await ws.close(code=1012)
    return ws


async def test_what_is_no_gateway_is_told_in_a_sentence() -> None:
    app = web.Application()
    app.add_routes([web.post("/{rest:.*}", a_page)])
    async with serve(app, "127.0.0.1", 0) as port:
        with pytest.raises(Refusal, match="502") as refusal:
            await journey(f"http://127.0.0.1:{port}", ORDER, make_console())
    assert refusal.value.code == EXIT_UNREACHABLE


async def test_a_socket_that_is_closed_at_once_is_told_in_a_sentence() -> None:
    app = web.Application()
    app.add_routes([web.post("/api/auth/signup", an_account), web.get("/api/ws/orders", a_farewell)])
    async with serve(app, "127.0.0.1", 0) as port:
        with pytest.raises(Refusal, match="closed with 1012") as refusal:
            await journey(f"http://127.0.0.1:{port}", ORDER, make_console())
    assert refusal.value.code == EXIT_DIFFERS


@pytest.mark.parametrize("sign_up", [silence, an_account], ids=["at once", "when listened to"])
async def test_a_gateway_that_is_silent_is_not_called_an_order_that_is_slow(
    monkeypatch: pytest.MonkeyPatch, sign_up: Handler
) -> None:
    monkeypatch.setattr("services.ops.journey.ANSWER_WITHIN_S", 0.2)
    app = web.Application()
    app.add_routes([web.post("/api/auth/signup", sign_up), web.get("/api/ws/orders", silence)])
    async with serve(app, "127.0.0.1", 0, drain_s=0.1) as port:
        with pytest.raises(Refusal, match=r"no answer within 0\.2 s") as refusal:
            await journey(f"http://127.0.0.1:{port}", ORDER, make_console())
    assert refusal.value.code == EXIT_UNREACHABLE


@pytest.mark.parametrize("base", ["127.0.0.1:1/swaplog", "127.0.0.1:99999", "[::", "", ":8080", "::1:8080"])
def test_an_address_that_is_none_is_a_usage_error(base: str) -> None:
    assert main(["journey", "--base", f"http://{base}"]) == EXIT_USAGE
