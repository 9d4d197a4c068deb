"""Cross-origin requests (CORS protocol of the Fetch standard): from the origins in the settings, never with cookies."""

from collections.abc import Mapping

from aiohttp import hdrs, web

_METHODS = "GET, POST, DELETE"
_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, X-API-Key, X-Request-Id, "
    "traceparent, tracestate"
)
_EXPOSED = "ETag, Idempotent-Replayed, Link, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
_KEPT_S = 3_600


def cors_headers(request: web.Request, origins: frozenset[str]) -> Mapping[str, str]:
    """What lets a page of one of `origins` read the answer."""
    origin = request.headers.get(hdrs.ORIGIN)
    if not origins:
        return {}
    if origin is None or (origin not in origins and "*" not in origins):
        return {"Vary": "Origin"}  # also to whoever has none: a cache may keep it
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED, "Vary": "Origin"}


def preflight(request: web.Request, origins: frozenset[str]) -> web.Response | None:
    """The answer to a browser that asks whether it may ask."""
    if request.method != hdrs.METH_OPTIONS or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
        return None
    allowed = cors_headers(request, origins)
    if "Access-Control-Allow-Origin" not in allowed:
        return None
    headers = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": _HEADERS,
        "Access-Control-Max-Age": str(_KEPT_S),
    }
    return web.Response(status=204, headers=headers)
