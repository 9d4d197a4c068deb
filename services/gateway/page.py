"""The API described for people: one page that loads nothing and runs nothing, made of the OpenAPI document."""

import html
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import orjson

from services.gateway import meanings
from services.gateway.asyncapi import OPS, messages
from services.gateway.openapi import ABOUT, openapi
from services.gateway.page_style import STYLE
from services.gateway.problems import KINDS

Node = Mapping[str, Any]
DEFAULT_ORIGIN = "http://127.0.0.1:8080"


@cache
def page() -> bytes:
    """The page."""
    document = orjson.loads(openapi())
    operations = [(method, path, one) for path, methods in document["paths"].items() for method, one in methods.items()]
    groups = {tag["name"]: [one for one in operations if one[2]["tags"] == [tag["name"]]] for tag in document["tags"]}
    about = {tag["name"]: tag["description"] for tag in document["tags"]}
    schemas: Node = document["components"]["schemas"]
    body = "".join(
        f"<h2 id={_anchor(tag)}>{tag}</h2><p class=lead>{about[tag].capitalize()}.</p>"
        + "".join(_operation(*one, schemas) for one in group)
        for tag, group in groups.items()
    )
    shapes = "".join(_schema(name, schema) for name, schema in sorted(schemas.items()))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>Swaplog API</title><style>{STYLE}</style><nav>{_contents(groups)}</nav><main>"
        f"<h1>Swaplog API</h1><p class=lead>{_text(ABOUT)}</p>"
        "<p>For machines: <a href=/api/openapi.json>OpenAPI 3.1</a>, <a href=/api/asyncapi.json>AsyncAPI 3.0</a>.</p>"
        f"{body}{_live()}{_codes()}<h2 id=shapes>Shapes</h2>{shapes}</main></html>"
    ).encode()


def _contents(groups: Mapping[str, Iterable[tuple[str, str, Node]]]) -> str:
    def entry(method: str, path: str, one: Node) -> str:
        return f"<li><a href=#{one['operationId']}>{_method(method)}<span>{_path(path)}</span></a>"

    lists = "".join(
        f"<h3><a href=#{_anchor(tag)}>{tag}</a></h3><ul>{''.join(entry(*one) for one in group)}</ul>"
        for tag, group in groups.items()
    )
    more = (("websocket", "WebSocket"), ("problems", "Problems"), ("failures", "Why orders fail"), ("shapes", "Shapes"))
    return f"<h3>Swaplog API</h3>{lists}" + "".join(f"<h3><a href=#{to}>{name}</a></h3>" for to, name in more)


def _operation(method: str, path: str, one: Node, schemas: Node) -> str:
    parameters = [(each["name"], each["in"], each.get("description", ""), each) for each in one.get("parameters", ())]
    rows = [
        (f"<code>{name}</code>{_required(each)}", where, f"{_type(each['schema'])} {_text(about)}")
        for name, where, about, each in parameters
    ]
    return (
        f"<section id={one['operationId']}><h4>{_method(method)}<code>{_path(path)}</code></h4>"
        f"<p>{_text(one['summary'])}. <small>{_needs(one.get('security'))}</small></p>"
        + (_table(("parameter", "in", ""), rows) if rows else "")
        + _request(method, path, one, schemas)
        + _answers(one["responses"])
        + "</section>"
    )


def _needs(security: Sequence[Mapping[str, Sequence[str]]] | None) -> str:
    if not security:
        return "Needs no credential."
    scopes = security[0]["token"]
    return f"Needs a login, or an API key with <code>{scopes[0]}</code>." if scopes else "Needs a login."


def _request(method: str, path: str, one: Node, schemas: Node) -> str:
    content = one.get("requestBody", {}).get("content", {}).get("application/json")
    token = " -H 'authorization: Bearer '$TOKEN" if one.get("security") else ""
    verb = f" -X {method.upper()}" if method != "get" and not content else ""
    url = f"{DEFAULT_ORIGIN}{path}{_query(one)}"
    call = f"curl -s{verb} {shlex.quote(url) if '?' in url else url}{token}"
    if not content:
        return f"<pre>{html.escape(call)}</pre>"
    data = json.dumps(content.get("example", {}))
    whole = f"{call} \\\n  -H 'content-type: application/json' -d '{data}'"
    members = _members(schemas[content["schema"]["$ref"].rpartition("/")[2]])
    return f"<p>Body: {_type(content['schema'])}</p>{members}<pre>{html.escape(whole)}</pre>"


def _query(one: Node) -> str:
    """What must be asked, as an example."""
    needed = [each for each in one.get("parameters", ()) if each["in"] == "query" and each.get("required")]
    return "?" + "&".join(f"{each['name']}={each['example']}" for each in needed) if needed else ""


def _answers(responses: Node) -> str:
    rows = []
    for status, answer in responses.items():
        given: Node = answer.get("content", {})
        kind, content = next(iter(given.items()), ("", None))
        schema: Node = content["schema"] if content else {}
        streams = kind == "text/event-stream"
        shape = f"an event stream: {_text(schema['description'])}" if streams else _type(schema) if schema else ""
        told = re.sub(r"\w+", _code_link, answer["description"].removeprefix("code: ")) if int(status) >= 400 else ""
        rows.append((f"<b class=s{status[0]}>{status}</b>", shape, told))
    return f"<details><summary>Answers</summary>{_table(('', '', ''), rows)}</details>"


def _code_link(found: re.Match[str]) -> str:
    return f"<a href=#{found[0]}><code>{found[0]}</code></a>" if found[0] in KINDS else found[0]


def _schema(name: str, schema: Node) -> str:
    about = _text(schema.get("description", ""))
    return f"<section id=shape-{name}><h4>{name}</h4><p>{about}</p>{_members(schema)}</section>"


def _members(schema: Node) -> str:
    required = schema.get("required", ())
    rows = [
        (f"<code>{name}</code>{_required({'required': name in required})}", f"{_type(node)} {_about(node)}")
        for name, node in schema.get("properties", {}).items()
    ]
    return _table(("member", ""), rows) if rows else ""


def _about(node: Node) -> str:
    limits = [
        f"{name} {node[name]}" for name in ("minLength", "maxLength", "minimum", "maximum", "maxItems") if name in node
    ]
    return " ".join([_text(node.get("description", "")), *(f"<small>{limit}</small>" for limit in limits)])


def _type(node: Node) -> str:
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return f"<a href=#shape-{name}>{name}</a>"
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(map(_type, node["anyOf"])))
    if values := node.get("enum"):
        return "one of " + ", ".join(f"<code>{value}</code>" for value in values)
    match node.get("type"):
        case "array":
            return f"list of {_type(node['items'])}"
        case "null":
            return "<i>null</i>"
        case "string" if node.get("format") == "date-time":
            return "<i>time</i>"
        case "string":
            return "<i>text</i>"
        case kind:
            return f"<i>{kind or 'any'}</i>"


def _live() -> str:
    asked = [(f"<code>{op}</code>", ", ".join(given), _text(about)) for op, (given, about) in OPS.items()]
    entry = meanings.ENTRY_OPS.items()
    return (
        "<h2 id=websocket>WebSocket</h2><section><h4><b class='m ws'>ws</b><code>/api/ws/orders</code></h4>"
        "<p>A snapshot, then every event of your orders once and in order, as <a href=#shape-Event>Event</a>. "
        "<code>?orderId=</code> is one order, and may be repeated; <code>?cursor=</code> goes on from there and "
        "nothing is missed; "
        "<code>?ticket=</code> stands for a header in browsers. The same messages come as Server-Sent Events from "
        "<a href=#orderStream><code>/api/stream/orders</code></a>.</p>"
        + _table(("you say: op", "members", ""), asked)
        + _table(("told: type", ""), _coded(messages()))
        + _table(("closed with", ""), meanings.CLOSES.items())
        + _table(("error code", ""), _coded(meanings.LIVE_ERRORS))
        + "</section><section><h4><b class='m ws'>ws</b><code>/api/ws/entry</code></h4>"
        "<p>Orders placed and cancelled over one socket, by the rules of <a href=#placeOrder>POST /api/orders</a>, "
        'answered in the order they came by <code>{"type":"result","id","op","status"}</code> with '
        "<a href=#shape-Order>order</a> or <a href=#shape-Problem>problem</a>.</p>"
        + _table(("you say: op", "members", "answered by"), ((f"<code>{op}</code>", *what) for op, what in entry))
        + "</section>"
    )


def _codes() -> str:
    problems = [
        (f"<code id={code}>{code}</code>", kind.status, _text(kind.title), "yes" if kind.retryable else "")
        for code, kind in KINDS.items()
    ]
    failures = [
        (f"<code>{reason}</code>", failure.stage, _text(failure.means), "yes" if failure.again else "")
        for reason, failure in meanings.FAILURES.items()
    ]
    return (
        "<h2 id=problems>Problems</h2>"
        + _table(("code", "status", "", "the same again may succeed"), problems)
        + "<h3>Parts of a body</h3>"
        + _table(("errors[].code", ""), _coded(meanings.FIELD_CODES))
        + "<h2 id=failures>Why orders fail</h2>"
        + _table(("failure.code", "stage", "", "tried again"), failures)
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    titles = "".join(f"<th>{title}" for title in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows)
    return f"<table><tr>{titles}{lines}</table>"


def _coded(means: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(f"<code>{name}</code>", _text(about)) for name, about in means.items()]


def _text(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def _method(method: str) -> str:
    return f"<b class='m {method}'>{'del' if method == 'delete' else method}</b>"


def _path(path: str) -> str:
    return re.sub(r"\{\w+\}", lambda part: f"<i>{part[0]}</i>", html.escape(path))


def _required(node: Node) -> str:
    return "<sup title=required>*</sup>" if node.get("required") else ""


def _anchor(tag: str) -> str:
    return tag.lower().replace(" ", "-")
