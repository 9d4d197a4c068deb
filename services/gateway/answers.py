"""Answers that are JSON."""

import orjson
from aiohttp import web

# To caches on the way, an API key in a header of its own says nothing: they must be told that an answer is private.
_JSON = {"Content-Type": "application/json", "Cache-Control": "private, no-cache"}
SECRET = {"Cache-Control": "no-store"}


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """`value` as the body."""
    return web.Response(body=orjson.dumps(value), status=status, headers=_JSON | headers if headers else _JSON)


def nothing() -> web.Response:
    """Done, and there is nothing to say."""
    return web.Response(status=204)
