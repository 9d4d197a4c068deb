"""Answers that are JSON."""

import orjson
from aiohttp import web

_JSON = {"Content-Type": "application/json"}
SECRET = {"Cache-Control": "no-store"}


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """`value` as the body."""
    return web.Response(body=orjson.dumps(value), status=status, headers=_JSON | headers if headers else _JSON)


def nothing() -> web.Response:
    """Done, and there is nothing to say."""
    return web.Response(status=204)
