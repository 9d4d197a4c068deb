"""What happens for each address under `/api/quotes`."""

import asyncio

import orjson
from aiohttp import web

from services.gateway import dto, limits
from services.gateway.answers import SECRET, answer
from services.gateway.asking import Asking
from services.gateway.cors import cors_headers
from services.gateway.in_time import in_time
from services.gateway.parts import Parts
from services.gateway.problems import Problem
from services.gateway.quotes import Asked, Given
from services.gateway.rates import rate_headers
from services.gateway.reading import REQUEST_ID

_STREAM = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Quoting:
    """Every handler; `services.gateway.app` says which address each has."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._asking = parts, Asking(parts)

    async def quote(self, request: web.Request) -> web.Response:
        """GET /api/quotes?tokenIn=&tokenOut=&amount=&slippageBps=."""
        user = await in_time(self._asking.reader(request))
        given = await self._parts.quotes.quote(self._asked(request), user)
        return answer(given.body, headers=SECRET)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """GET /api/quotes/stream, asked as `/api/quotes`: Server-Sent Events, only when there is a better one."""
        user = await self._asking.reader(request)
        quotes = self._parts.quotes.improvements(self._asked(request), user, lambda: _is_there(request))
        with self._parts.quotes.streaming(user):
            first = await anext(quotes)  # while it can still be refused
            response = web.StreamResponse(headers={**_STREAM, **self._of_every_answer(request)})
            await response.prepare(request)
            await response.write(_event(first))
            async for given in quotes:
                await response.write(_event(given))
                await asyncio.sleep(0)
        return response

    def _of_every_answer(self, request: web.Request) -> dict[str, str]:
        # The middleware gives them to an answer that is whole; this one's headers have left by then.
        rates, cors = rate_headers(request), cors_headers(request, self._parts.cors_origins)
        return {"X-Request-Id": request[REQUEST_ID], **rates, **cors}

    def _asked(self, request: web.Request) -> Asked:
        wanted = {name: request.query[name] for name in ("tokenIn", "tokenOut", "amount") if name in request.query}
        slippage = request.query.get("slippageBps")
        if unknown := sorted(request.query.keys() - {"tokenIn", "tokenOut", "amount", "slippageBps"}):
            raise Problem("invalid_parameter", f"There is no parameter {unknown[0][: limits.ECHO_CHARS_MAX]}.")
        if slippage is not None and not (slippage.isascii() and slippage.isdigit() and len(slippage) <= 5):
            raise Problem("invalid_parameter", "slippageBps is a number from 0 to 10000.")
        body = {**wanted, **({"slippageBps": int(slippage)} if slippage else {})}
        order = dto.read_order(orjson.dumps(body), self._parts.clock())
        bps = self._parts.slippage_bps if order.slippage_bps is None else order.slippage_bps
        return Asked(order.token_in, order.token_out, order.amount_in, bps)


def _is_there(request: web.Request) -> bool:
    # Seconds may pass until something is told, and only then would it show that the client has left.
    return request.transport is not None and not request.transport.is_closing()


def _event(given: Given | None) -> bytes:
    if given is None:
        return b": no venue quotes now\n\n"
    return b"event: quote\ndata: " + orjson.dumps(given.body) + b"\n\n"
