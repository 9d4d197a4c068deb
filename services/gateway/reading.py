"""What requests carry beside their bodies' meaning. Every function refuses with a Problem."""

import asyncio
import math
import re

from aiohttp import hdrs, web

from libs.orders.views import PAGE_MAX
from services.gateway import limits
from services.gateway.dto import is_key
from services.gateway.problems import Problem

REQUEST_ID = web.RequestKey("request_id", str)
BODY = web.RequestKey("body", bytes)
_SIZE = re.compile(r"[0-9]{1,4}")


async def read_body(request: web.Request) -> bytes:
    """The body, if it calls itself JSON (or nothing) and is not too large."""
    if hdrs.CONTENT_TYPE in request.headers and request.content_type != "application/json":
        raise Problem("unsupported_media_type", f"Send application/json, not {request.content_type}.")
    if (request.content_length or 0) > limits.BODY_BYTES_MAX:
        raise web.HTTPRequestEntityTooLarge(limits.BODY_BYTES_MAX, request.content_length or 0)
    body = request[BODY] = await _body_of(request)
    return body


async def _body_of(request: web.Request) -> bytes:
    if request.content.is_eof():  # all of it is there: nothing to wait for
        body = request.content.read_nowait()
        if len(body) > limits.BODY_BYTES_MAX:
            raise web.HTTPRequestEntityTooLarge(limits.BODY_BYTES_MAX, len(body))
        return body
    try:
        async with asyncio.timeout(limits.BODY_DEADLINE_S):
            return await request.read()
    except TimeoutError:
        detail = f"The body did not arrive within {limits.BODY_DEADLINE_S:g} s; nothing was done."
        raise Problem("request_timeout", detail, headers={"Connection": "close"}) from None
    except RuntimeError as error:  # of a connection that was lost before its body was asked for
        raise ConnectionResetError(str(error)) from None


def weight_of(size: int) -> int:
    """How many orders a body, or message, of so many bytes counts as at least."""
    return max(1, math.ceil(size / limits.BYTES_PER_WRITE))


def idempotency_key(request: web.Request) -> str | None:
    """The client's key, as it came."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not is_key(key):
        longest = limits.IDEMPOTENCY_KEY_CHARS_MAX
        raise Problem("invalid_idempotency_key", f"An Idempotency-Key is 1 to {longest} printable ASCII characters.")
    return key


def page_size(request: web.Request) -> int:
    """`?limit=`, or the default."""
    text = request.query.get("limit")
    if text is None:
        return limits.PAGE_DEFAULT
    if not _SIZE.fullmatch(text) or not 1 <= int(text) <= PAGE_MAX:
        raise Problem("invalid_parameter", f"limit must be a number from 1 to {PAGE_MAX}.")
    return int(text)


def check_handshake(request: web.Request) -> None:
    """Only what asks to become a WebSocket may go on."""
    tokens = request.headers.get(hdrs.CONNECTION, "").lower().replace(" ", "").split(",")
    if "upgrade" not in tokens or request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
        raise Problem("upgrade_required", "Open this address as a WebSocket.", headers=headers)
    if request.body_exists:
        raise Problem("malformed_request", "A WebSocket handshake has no body.")
