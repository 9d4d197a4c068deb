"""The API described for machines: OpenAPI 3.1, from the models that check what comes in and name what goes out."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from libs.events.model import Reason
from libs.venues.tokens import TOKENS
from services.gateway import shapes, shapes_accounts
from services.gateway.meanings import FIELD_CODES, MEMBERS
from services.gateway.operations import EXAMPLES, OPERATIONS, TAGS, Operation, tag_of
from services.gateway.problems import KINDS
from services.gateway.terms import PRICE_PLACES_MAX

VERSION = "0.1.0"
ABOUT = (
    "Places token-swap orders and tells what happens to them. Errors are RFC 9457 problem documents with a stable "
    "`code`; a 202 means that the order is in the log; send an `Idempotency-Key` and repeat without fear."
)
_SCHEMAS = "#/components/schemas/"
_TOKEN_PLACES_MAX = max(token.decimals for token in TOKENS.values())

# An order that was placed can be looked at, followed and cancelled; a quote can be taken.
_LINKS: Mapping[type[BaseModel], dict[str, Any]] = {
    shapes.OrderShape: {
        name: {"operationId": name, "parameters": {"order_id": "$response.body#/orderId"}}
        for name in ("order", "orderEvents", "cancelOrder")
    },
    shapes.QuoteShape: {
        "placeOrder": {
            "operationId": "placeOrder",
            "requestBody": {
                name: f"$response.body#/{name}" for name in ("tokenIn", "tokenOut", "amount", "slippageBps", "quoteId")
            },
        }
    },
}
_HEADERS = {
    "X-Request-Id": "your own, or one that was made: the name of this request in every log",
    "RateLimit": 'what is left, as in "reads";r=11998;t=1 (draft-ietf-httpapi-ratelimit-headers)',
    "RateLimit-Policy": 'what is allowed, as in "reads";q=12000;w=60',
    "Retry-After": "seconds to wait before the same request",
    "ETag": "this order at this version",
    "Location": "where what was made is found",
    "Link": "the next page, while there is one",
    "Idempotent-Replayed": "true: an earlier request under this key made the order",
}


@cache
def openapi() -> bytes:
    """The document."""
    models: set[type[BaseModel]] = {shapes.ProblemShape}
    for one in OPERATIONS:
        models |= {model for model in (*one.answers.values(), one.body) if model}
    refs, schemas = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        by_alias=True,
        ref_template=_SCHEMAS + "{model}",
    )
    names = {model: str(refs[model, "validation"]["$ref"]) for model in models}
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = _operation(one, names)
    raw = orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Swaplog", "version": VERSION, "description": ABOUT, "license": {"name": "MIT"}},
            "servers": [{"url": "/"}],
            "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
            "paths": paths,
            "components": {
                "schemas": _refined(schemas["$defs"]),
                "headers": {
                    name: {"description": about, "schema": {"type": "string"}} for name, about in _HEADERS.items()
                },
                "securitySchemes": {
                    "token": {"type": "http", "scheme": "bearer", "description": "of a login, or an API key"},
                    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                },
            },
        }
    )
    return named_for_clients(raw)


def named_for_clients(raw: bytes) -> bytes:
    """`Order`, not `OrderShape`: programs are made of this, and the ending is for us."""
    return re.sub(rb'(?<=\w)Shape"', b'"', raw)


def _operation(one: Operation, names: Mapping[type[BaseModel], str]) -> dict[str, Any]:
    answers = {str(status): _answer(one, status, model, names) for status, model in one.answers.items()}
    refused = set(one.problems) | ({401, 403} if one.scope is not None else set())
    for status in sorted(refused):
        codes = [code for code, kind in KINDS.items() if kind.status == status]
        problem = {"application/problem+json": {"schema": {"$ref": names[shapes.ProblemShape]}}}
        headers = ("X-Request-Id", "Retry-After") if status in {408, 429, 503} else ("X-Request-Id",)
        answers[str(status)] = {
            "description": f"code: {', '.join(codes)}",
            "headers": _headers(*headers),
            "content": problem,
        }
    found: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "tags": [tag_of(one)],
        "responses": answers,
    }
    if one.parameters:
        found["parameters"] = list(one.parameters)
    if one.body:
        content: dict[str, Any] = {"schema": {"$ref": names[one.body]}}
        if example := EXAMPLES.get(one.name):
            content["example"] = example
        found["requestBody"] = {"required": True, "content": {"application/json": content}}
    if one.scope is not None:
        # An API key needs the scope; whoever has logged in has them all.
        found["security"] = [{"token": [one.scope]}, {"apiKey": [one.scope]}] if one.scope else [{"token": []}]
    return found


def _answer(
    one: Operation, status: int, model: type[BaseModel] | None, names: Mapping[type[BaseModel], str]
) -> dict[str, Any]:
    description = one.summary if status < 400 else "Not now"
    headers = ["X-Request-Id"]
    if one.scope is not None and not one.path.startswith("/api/stream/"):  # what the notifier answers is not counted
        headers += ["RateLimit", "RateLimit-Policy"]
    if model is shapes.OrdersShape:
        headers.append("Link")
    if model is shapes.OrderShape or status == 304:
        headers.append("ETag")
    if status in {201, 202} and model in {shapes.OrderShape, shapes_accounts.NewKeyShape}:
        headers.append("Location")
    if status == 202 and model is shapes.OrderShape:
        headers.append("Idempotent-Replayed")
    answer: dict[str, Any] = {"description": description, "headers": _headers(*headers)}
    if one.streams:
        answer["content"] = {"text/event-stream": {"schema": {"type": "string", "description": one.streams}}}
    elif model:
        answer["content"] = {"application/json": {"schema": {"$ref": names[model]}}}
        if links := _LINKS.get(model):
            answer["links"] = links
    return answer


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _refined(schemas: dict[str, Any]) -> dict[str, Any]:
    """What pydantic cannot know: what members mean, which codes there are, that amounts are read with all digits."""
    for name, schema in schemas.items():
        members = schema.get("properties", {})
        for member in {"amount", "limitPrice", "minAmountOut"} & members.keys():
            if "type" not in members[member] and "anyOf" not in members[member]:
                nullable = [] if member == "amount" else [{"type": "null"}]
                places = PRICE_PLACES_MAX if member == "limitPrice" else _TOKEN_PLACES_MAX
                decimal = {"type": "string", "pattern": rf"^[0-9]{{1,20}}(\.[0-9]{{1,{places}}})?$"}
                choices = [decimal, {"type": "number", "exclusiveMinimum": 0}, *nullable]
                members[member] = {"anyOf": choices, "title": member}
        if name in {"OrderBody", "BatchItemBody"}:
            for member, about in MEMBERS.items():
                if member in members:
                    members[member]["description"] = about
    schemas["ProblemShape"]["properties"]["code"]["enum"] = list(KINDS)
    schemas["FieldErrorShape"]["properties"]["code"]["enum"] = list(FIELD_CODES)
    schemas["FailureShape"]["properties"]["code"]["examples"] = [reason.value for reason in Reason]
    return schemas
