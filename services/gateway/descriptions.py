"""The addresses where the API describes itself."""

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from services.gateway.asyncapi import asyncapi
from services.gateway.openapi import openapi
from services.gateway.page import page

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def description_routes() -> list[web.RouteDef]:
    """All three."""
    return [
        web.get("/api/openapi.json", _serving(openapi, "application/json")),
        web.get("/api/asyncapi.json", _serving(asyncapi, "application/json")),
        web.get("/api/docs", _serving(page, "text/html; charset=utf-8")),
    ]


def _serving(make: Callable[[], bytes], content_type: str) -> Handler:
    headers = {"Content-Type": content_type, "Cache-Control": "public, max-age=60", "Content-Security-Policy": _POLICY}

    async def serve(_request: web.Request) -> web.Response:
        return web.Response(body=make(), headers=headers)

    return serve
