"""JSON in, JSON out."""

from typing import Any

import orjson
from aiohttp import web

from services.localnet.quotes import Refused

JSON = "application/json"


def answer(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type=JSON)


async def read_object(request: web.Request) -> dict[str, Any]:
    """The body.

    Raises:
        Refused: it is no JSON object.
    """
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise Refused("INVALID_REQUEST", "The body must be a JSON object.")
    return body
