"""The live part described for machines: AsyncAPI 3.0."""

from functools import cache
from typing import Any

import orjson

from services.gateway import shapes
from services.gateway.meanings import CLOSES, LIVE_ERRORS
from services.gateway.openapi import VERSION, named_for_clients

_TEXT, _TEXTS = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
_CURSOR = {"type": "string", "description": "where to go on after this message"}

# What a client may say: members beside `op`.
OPS: dict[str, tuple[dict[str, Any], str]] = {
    "auth": ({"token": _TEXT}, "who you are: the first message, or a new token before the old one ends"),
    "subscribe": ({"orderIds": _TEXTS}, "these orders too, on a socket opened for one; answered by a snapshot of them"),
    "unsubscribe": ({"orderIds": _TEXTS}, "no longer these"),
    "ping": ({}, "answered by pong"),
}


def _told() -> dict[str, tuple[dict[str, Any], str]]:
    orders = {"type": "array", "items": {"$ref": "#/components/schemas/OrderShape"}}
    error = {"code": {"type": "string", "enum": list(LIVE_ERRORS)}, "detail": _TEXT}
    return {
        "snapshot": ({"cursor": _CURSOR, "orders": orders}, "orders as they are: replaces what you knew of them"),
        "heartbeat": ({"cursor": _CURSOR}, "every 25 s: alive, and nothing up to here was left out"),
        "reset": ({"reason": _TEXT}, "what follows your cursor cannot be told without a gap: a snapshot comes next"),
        "subscribed": ({"orderIds": _TEXTS}, "the orders this socket carries now"),
        "unsubscribed": ({"orderIds": _TEXTS}, "the orders this socket still carries"),
        "authenticated": ({"expiresAt": {"type": "string", "format": "date-time"}}, "the new token is taken"),
        "pong": ({}, "the answer to ping"),
        "error": (error, "your last message was not acted on"),
    }


def messages() -> dict[str, str]:
    """What is told beside events, by `type`, and what it means."""
    return {name: about for name, (_, about) in _told().items()}


@cache
def asyncapi() -> bytes:
    """The document."""
    event = shapes.EventShape.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    order = shapes.OrderShape.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    schemas = {**event.pop("$defs", {}), **order.pop("$defs", {}), "EventShape": event, "OrderShape": order}
    told: dict[str, Any] = {
        "event": {"name": "event", "summary": "one event of an order", "payload": _ref("schemas/EventShape")},
        **{name: _message("type", name, *what) for name, what in _told().items()},
    }
    asked = {name: _message("op", name, *what) for name, what in OPS.items()}
    channel = {
        "address": "/api/ws/orders",
        "description": "?orderId=: one order; ?cursor=: go on from there; ?ticket=: instead of a header. "
        "The same messages as Server-Sent Events: GET /api/stream/orders.",
        "messages": {**told, **asked},
    }
    closes = "; ".join(f"{code}: {why}" for code, why in CLOSES.items())
    raw = orjson.dumps(
        {
            "asyncapi": "3.0.0",
            "info": {"title": "Swaplog, live", "version": VERSION, "description": f"Close codes: {closes}."},
            "channels": {"orders": channel},
            "operations": {"told": _operation("send", told), "asked": _operation("receive", asked)},
            "components": {"schemas": schemas},
        }
    )
    return named_for_clients(raw)


def _message(key: str, name: str, members: dict[str, Any], about: str) -> dict[str, Any]:
    payload = {"type": "object", "properties": {key: {"const": name}, **members}, "required": [key, *members]}
    return {"name": name, "summary": about, "payload": payload}


def _operation(action: str, messages: dict[str, Any]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/orders"},
        "messages": [{"$ref": f"#/channels/orders/messages/{name}"} for name in messages],
    }


def _ref(path: str) -> dict[str, str]:
    return {"$ref": f"#/components/{path}"}
