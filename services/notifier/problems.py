"""Refusals before the upgrade: the same documents, codes and members as the gateway's."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
from aiohttp import web


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to be refused."""

    code: str
    status: int
    title: str
    headers: Mapping[str, str] = field(default_factory=dict)


_LATER = {"Retry-After": "1"}
TOKEN_MISSING = Kind("token_missing", 401, "No access token", {"WWW-Authenticate": "Bearer"})
TOKEN_INVALID = Kind("token_invalid", 401, "The access token is not valid", {"WWW-Authenticate": "Bearer"})
TICKET_INVALID = Kind("ticket_invalid", 401, "The ticket is not valid")
INVALID_PARAMETER = Kind("invalid_parameter", 400, "A parameter is not usable")
NOT_FOUND = Kind("not_found", 404, "There is nothing at this address")
ORDER_NOT_FOUND = Kind("order_not_found", 404, "No such order")
UPGRADE_REQUIRED = Kind("upgrade_required", 426, "This address speaks WebSocket only", {"Upgrade": "websocket"})
TOO_MANY_CONNECTIONS = Kind("too_many_connections", 429, "Too many connections of this user", _LATER)
BUSY = Kind("busy", 503, "Too much at once", _LATER)
UNAVAILABLE = Kind("log_unavailable", 503, "Orders cannot be read now", _LATER)


NO_SUCH_ORDER = "You have no order with this id."


def problem(request: web.Request, kind: Kind, detail: str) -> web.Response:
    """An RFC 9457 problem document."""
    document = {
        "type": f"/api/docs#{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": request.path,
        "code": kind.code,
        "requestId": request.headers.get("X-Request-Id", ""),
        "retryable": kind.status in (429, 503),
        "errors": [],
    }
    # Some caches keep refusals, too: an order not found would stay so, and for its owner if a stranger had asked.
    headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store", **kind.headers}
    return web.Response(status=kind.status, body=orjson.dumps(document), headers=headers)
