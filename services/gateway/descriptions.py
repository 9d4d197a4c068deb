"""The addresses where the API describes itself."""

import re
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from services.gateway.asyncapi import asyncapi
from services.gateway.openapi import openapi
from services.gateway.page import DEFAULT_ORIGIN, page

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HERE = re.compile(r"(127\.0\.0\.1|localhost):\d{1,5}")


def description_routes() -> list[web.RouteDef]:
    """All three."""
    return [
        web.get("/api/openapi.json", _serving(openapi, "application/json")),
        web.get("/api/asyncapi.json", _serving(asyncapi, "application/json")),
        web.get("/api/docs", _page),
    ]


def _serving(make: Callable[[], bytes], content_type: str) -> Handler:
    async def serve(_request: web.Request) -> web.Response:
        return _described(make(), content_type)

    return serve


async def _page(request: web.Request) -> web.Response:
    body = page()
    if _HERE.fullmatch(request.host):  # elsewhere nobody knows how it is reached, and a token must not go there by http
        body = body.replace(DEFAULT_ORIGIN.encode(), f"http://{request.host}".encode())
    return _described(body, "text/html; charset=utf-8")


def _described(body: bytes, content_type: str) -> web.Response:
    headers = {"Content-Type": content_type, "Cache-Control": "public, max-age=60", "Content-Security-Policy": _POLICY}
    return web.Response(body=body, headers=headers)
