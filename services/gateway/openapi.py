"""The API described for machines (OpenAPI 3.1, AsyncAPI 3.0) and for people, all from the models that check it."""

import html
from functools import cache
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from libs.events.model import Reason
from services.gateway import shapes
from services.gateway.operations import OPERATIONS, Operation
from services.gateway.problems import KINDS

VERSION = "0.1.0"
_ABOUT = (
    "Places token-swap orders and tells what happens to them. Errors are RFC 9457 problem documents with a stable "
    "`code`; a 202 means that the order is in the log; send an `Idempotency-Key` and repeat without fear."
)
CLOSES = {
    4001: "the notifier restarts: come back, after the milliseconds in the reason",
    4008: "you read too slowly: come back with the last cursor",
    1013: "orders cannot be read now: come back",
    4401: "no valid token, or it has expired: come back with a new one",
    4404: "no such order: coming back will not help",
    4429: "too many connections of yours: close one first",
}


# An order that was placed can be looked at and cancelled.
_LINKS = {
    name: {"operationId": name, "parameters": {"order_id": "$response.body#/orderId"}}
    for name in ("order", "orderEvents", "cancelOrder")
}


@cache
def openapi() -> bytes:
    """The OpenAPI document."""
    models: set[type[BaseModel]] = {shapes.ProblemShape}
    for one in OPERATIONS:
        models |= {model for model in (*one.answers.values(), one.body) if model}
    refs, schemas = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        by_alias=True,
        ref_template="#/components/schemas/{model}",
    )
    names = {model: str(refs[model, "validation"]["$ref"]) for model in models}
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = _operation(one, names)
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Swaplog", "version": VERSION, "description": _ABOUT, "license": {"name": "MIT"}},
            "servers": [{"url": "/"}],
            "paths": paths,
            "components": {
                "schemas": _typed(schemas["$defs"]),
                "securitySchemes": {
                    "token": {"type": "http", "scheme": "bearer", "description": "of a login, or an API key"},
                    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                },
            },
        }
    )


def _operation(one: Operation, names: dict[type[BaseModel], str]) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, model in one.answers.items():
        content = {"content": {"application/json": {"schema": {"$ref": names[model]}}}} if model else {}
        links = {"links": _LINKS} if model is shapes.OrderShape and status == 202 else {}
        answers[str(status)] = {"description": one.summary if status < 400 else "Not now", **content, **links}
    refused = {*one.problems, 401} if one.scope is not None else set(one.problems)
    for status in sorted(refused | ({403} if one.scope is not None else set())):
        codes = [code for code, kind in KINDS.items() if kind.status == status]
        problem = {"application/problem+json": {"schema": {"$ref": names[shapes.ProblemShape]}}}
        answers[str(status)] = {"description": f"code: {', '.join(codes)}", "content": problem}
    found: dict[str, Any] = {"operationId": one.name, "summary": one.summary, "responses": answers}
    if one.parameters:
        found["parameters"] = list(one.parameters)
    if one.body:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": names[one.body]}}},
        }
    if one.scope is not None:
        found["security"] = [{"token": []}, {"apiKey": []}] if one.scope else [{"token": []}]
    return found


def _typed(schemas: dict[str, Any]) -> dict[str, Any]:
    """What pydantic cannot know: amounts and prices are read with all their digits, so their models say "any"."""
    for schema in schemas.values():
        for name in {"amount", "limitPrice", "minAmountOut"} & schema.get("properties", {}).keys():
            if "type" not in schema["properties"][name] and "anyOf" not in schema["properties"][name]:
                nullable = [] if name == "amount" else [{"type": "null"}]
                decimal = {"type": "string", "pattern": r"^[0-9]{1,20}(\.[0-9]{1,9})?$"}
                choices = [decimal, {"type": "number", "exclusiveMinimum": 0}, *nullable]
                schema["properties"][name] = {"anyOf": choices, "title": name}
    return schemas


@cache
def asyncapi() -> bytes:
    """The live part, as AsyncAPI 3.0."""
    event = shapes.EventShape.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    order = shapes.OrderShape.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    schemas = {**event.pop("$defs", {}), **order.pop("$defs", {}), "EventShape": event, "OrderShape": order}
    orders = {"type": "array", "items": {"$ref": "#/components/schemas/OrderShape"}}
    cursor = {"type": "string"}

    def message(name: str, **properties: object) -> dict[str, Any]:
        payload = {"type": "object", "properties": {"type": {"const": name}, **properties}}
        return {"name": name, "payload": payload}

    messages: dict[str, Any] = {
        "event": {"name": "event", "payload": {"$ref": "#/components/schemas/EventShape"}},
        "snapshot": message("snapshot", cursor=cursor, orders=orders),
        "heartbeat": message("heartbeat", cursor=cursor),
        "reset": message("reset", reason={"type": "string"}),
        "error": message("error", code={"type": "string"}, detail={"type": "string"}),
    }
    text, texts = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
    members: dict[str, dict[str, Any]] = {
        "auth": {"token": text},
        "ping": {},
        "subscribe": {"orderIds": texts},
        "unsubscribe": {"orderIds": texts},
    }
    asked = {
        op: {"name": op, "payload": {"type": "object", "properties": {"op": {"const": op}, **more}}}
        for op, more in members.items()
    }
    closes = "; ".join(f"{code}: {why}" for code, why in CLOSES.items())
    return orjson.dumps(
        {
            "asyncapi": "3.0.0",
            "info": {"title": "Swaplog, live", "version": VERSION, "description": f"Close codes: {closes}."},
            "channels": {
                "orders": {
                    "address": "/api/ws/orders",
                    "description": "?orderId=: one order; ?cursor=: go on from there; ?ticket=: instead of a header. "
                    "The same messages as Server-Sent Events: GET /api/stream/orders.",
                    "messages": {**messages, **asked},
                }
            },
            "operations": {
                "told": {
                    "action": "send",
                    "channel": {"$ref": "#/channels/orders"},
                    "messages": [{"$ref": f"#/channels/orders/messages/{name}"} for name in messages],
                },
                "asked": {
                    "action": "receive",
                    "channel": {"$ref": "#/channels/orders"},
                    "messages": [{"$ref": f"#/channels/orders/messages/{name}"} for name in asked],
                },
            },
            "components": {"schemas": schemas},
        }
    )


_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
code{background:#f2f3f5;padding:.1em .3em;border-radius:3px}table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #ddd;padding:.35em .5em;text-align:left;vertical-align:top}
.m{font-weight:600;text-transform:uppercase}h2{margin-top:2.2rem}"""


@cache
def page() -> bytes:
    """The same for people, in one page that loads nothing."""
    rows = "".join(
        f"<tr><td class=m>{one.method}</td><td><code>{html.escape(one.path)}</code></td>"
        f"<td>{html.escape(one.summary)}</td><td>{_needs(one)}</td></tr>"
        for one in OPERATIONS
    )
    problems = "".join(
        f"<tr><td><code>{code}</code></td><td>{kind.status}</td><td>{html.escape(kind.title)}</td>"
        f"<td>{'yes' if kind.retryable else ''}</td></tr>"
        for code, kind in KINDS.items()
    )
    reasons = "".join(f"<li><code>{reason.value}</code></li>" for reason in Reason)
    closes = "".join(f"<tr><td>{code}</td><td>{html.escape(why)}</td></tr>" for code, why in CLOSES.items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Swaplog API</title><style>{_STYLE}</style>"
        f"<h1>Swaplog API</h1><p>{html.escape(_ABOUT)}</p>"
        "<p>For machines: <a href=/api/openapi.json>OpenAPI</a>, <a href=/api/asyncapi.json>AsyncAPI</a>.</p>"
        f"<h2>Operations</h2><table>{rows}</table>"
        "<h2>Live</h2><p><code>WS /api/ws/orders</code> or <code>GET /api/stream/orders</code> (Server-Sent Events): a "
        "snapshot, then every event of your orders once and in order. Come back with <code>?cursor=</code> (or "
        "<code>Last-Event-ID</code>) and nothing is missed; where that cannot be proven you get <code>reset</code> "
        "and a new snapshot.</p>"
        f"<table><tr><th>closed with</th><th>means</th></tr>{closes}</table>"
        "<h2>Problems</h2><table><tr><th>code</th><th>status</th><th>title</th><th>retry</th></tr>"
        f"{problems}</table><h2>Why orders fail (<code>failure.code</code>)</h2><ul>{reasons}</ul></html>"
    ).encode()


def _needs(one: Operation) -> str:
    return {None: "", "": "login"}.get(one.scope, f"<code>{one.scope}</code>")


def description_routes() -> list[web.RouteDef]:
    """The three addresses."""

    def serving(make: Any, content_type: str) -> Any:
        async def serve(_request: web.Request) -> web.Response:
            return web.Response(
                body=make(),
                headers={
                    "Content-Type": content_type,
                    "Cache-Control": "public, max-age=60",
                    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
                },
            )

        return serve

    return [
        web.get("/api/openapi.json", serving(openapi, "application/json")),
        web.get("/api/asyncapi.json", serving(asyncapi, "application/json")),
        web.get("/api/docs", serving(page, "text/html; charset=utf-8")),
    ]
