"""The live part described for machines: AsyncAPI 3.0."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.gateway import meanings, shapes
from services.gateway.dto import BatchItemBody
from services.gateway.meanings import CLOSES, LIVE_ERRORS
from services.gateway.openapi import VERSION, named_for_clients

_TEXT, _TEXTS = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
_CURSOR = {"type": "string", "description": "where to go on after this message"}

# What a client may say: members beside `op`.
OPS: dict[str, tuple[dict[str, Any], str]] = {
    "auth": (
        {"token": _TEXT, "ticket": _TEXT},
        "who you are: a token as the first message; a new token, or a ticket, before the old one ends",
    ),
    "subscribe": ({"orderIds": _TEXTS}, "these orders too, on a socket opened for one; answered by a snapshot of them"),
    "unsubscribe": ({"orderIds": _TEXTS}, "no longer these"),
    "ping": ({}, "answered by pong"),
}


def _told() -> dict[str, tuple[dict[str, Any], str]]:
    orders = {"type": "array", "items": {"$ref": "#/components/schemas/OrderShape"}}
    error = {"code": {"type": "string", "enum": list(LIVE_ERRORS)}, "detail": _TEXT}
    return {
        "snapshot": (
            {"cursor": _CURSOR, "orders": orders},
            "orders as they are, of all of yours the 100 newest: replaces what you knew of these",
        ),
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
    schemas = _schemas()
    told: dict[str, Any] = {
        "event": {"name": "event", "summary": "one event of an order", "payload": _ref("schemas/EventShape")},
        **{name: _message("type", name, *what) for name, what in _told().items()},
    }
    asked = {name: _message("op", name, *what) for name, what in OPS.items()}
    asked["auth"]["payload"]["required"] = ["op"]  # and one of the two
    channel = {
        "address": "/api/ws/orders",
        "description": "?orderId=: one order, may be repeated; ?cursor=: go on from there; ?ticket=: instead of a "
        "header. The same messages as Server-Sent Events: GET /api/stream/orders.",
        "messages": {**told, **asked},
    }
    entry = _entry()
    closes = "; ".join(f"{code}: {why}" for code, why in CLOSES.items())
    raw = orjson.dumps(
        {
            "asyncapi": "3.0.0",
            "info": {"title": "Swaplog, live", "version": VERSION, "description": f"Close codes: {closes}."},
            "channels": {"orders": channel, "entry": entry},
            "operations": {
                "told": _operation("send", "orders", told),
                "asked": _operation("receive", "orders", asked),
                "answered": _operation("send", "entry", _ANSWERED),
                "ordered": _operation("receive", "entry", meanings.ENTRY_OPS),
            },
            "components": {"schemas": schemas},
        }
    )
    return named_for_clients(raw)


def _message(key: str, name: str, members: dict[str, Any], about: str) -> dict[str, Any]:
    payload = {"type": "object", "properties": {key: {"const": name}, **members}, "required": [key, *members]}
    return {"name": name, "summary": about, "payload": payload}


def _operation(action: str, channel: str, messages: Iterable[str]) -> dict[str, Any]:
    # A point in a name is no part of a path, so it needs no escape.
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


_ANSWERED = ("result", "answered.authenticated", "answered.pong", "answered.error")


def _entry() -> dict[str, Any]:
    """The socket for orders."""
    name = {"type": ["string", "null"]}
    error = {"id": name, "code": {"type": "string", "enum": list(LIVE_ERRORS)}, "detail": _TEXT}
    outcome = {
        "id": name,
        "op": _TEXT,
        "status": {"type": "integer"},
        "order": _ref("schemas/OrderShape"),
        "problem": _ref("schemas/ProblemShape"),
        "replayed": {"type": "boolean"},
    }
    given = {"order": _ref("schemas/BatchItemBody"), "orderId": _TEXT, "token": _TEXT}
    asked = {
        op: _message("op", op, {member: given[member]} if member else {}, about)
        for op, (member, about) in meanings.ENTRY_OPS.items()
    }
    result = _message("type", "result", outcome, "what became of one message: an order, or a problem")
    result["payload"]["required"] = ["type", "id", "op", "status"]
    until = {"id": name, "expiresAt": {"type": "string", "format": "date-time"}}
    messages = {
        "result": result,
        "answered.authenticated": _message("type", "authenticated", until, "the new token is taken"),
        "answered.pong": _message("type", "pong", {"id": name}, "the answer to ping"),
        "answered.error": _message("type", "error", error, "a message that was not acted on"),
    }
    return {
        "address": "/api/ws/entry",
        "description": "Orders placed and cancelled over one socket, answered in the order they came.",
        "messages": {**messages, **asked},
    }


def _schemas() -> dict[str, Any]:
    models: tuple[type[BaseModel], ...] = (shapes.EventShape, shapes.OrderShape, shapes.ProblemShape, BatchItemBody)
    pairs = [(model, "validation") for model in models]
    template = "#/components/schemas/{model}"
    # The mode of each pair is typed as a literal, and these come from a list of plain tuples.
    _, schemas = models_json_schema(pairs, by_alias=True, ref_template=template)  # type: ignore[arg-type]
    return dict(schemas["$defs"])


def _ref(path: str) -> dict[str, str]:
    return {"$ref": f"#/components/{path}"}
