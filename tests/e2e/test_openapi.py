"""The description is true: of every address, of every answer, whatever is sent to them."""

import asyncio
import html
import os
import re
import shlex
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import orjson
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import validate
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from deploy.local.stack import Stack
from services.gateway.asyncapi import asyncapi
from services.gateway.openapi import openapi
from services.gateway.operations import OPERATIONS
from services.gateway.problems import KINDS
from tests.clients import signed_up
from tests.waiting import eventually

ENVIRONMENT = {"PORT": "0", "NOTIFIER_PORT": "0", "LOCALNET_PORT": "0", "LOCALNET_SLOT_MS": "50"}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# A stream does not end; tests/contract read them.
STREAMS = [one.path for one in OPERATIONS if one.streams]
schema = schemathesis.openapi.from_dict(orjson.loads(openapi())).exclude(path=STREAMS)
QUICK = settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A stack of its own on a loop of its own: those who ask here are not asynchronous."""
    folder: Path = tmp_path_factory.mktemp("described")
    found: list[str] = []
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        async with Stack(folder / "data", env=ENVIRONMENT, durable=False) as stack:
            found.append(stack.base_url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(120)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    loop.close()


@pytest.fixture(scope="module")
def headers(base_url: str) -> dict[str, str]:
    credentials = {"email": f"{os.urandom(8).hex()}@example.org", "password": "correct horse"}
    made = requests.post(f"{base_url}/api/auth/signup", json=credentials, timeout=60)
    assert made.status_code == 201
    return {"Authorization": f"Bearer {made.json()['token']}"}


def test_the_documents_are_what_they_claim_to_be(base_url: str) -> None:
    validate(requests.get(f"{base_url}/api/openapi.json", timeout=60).json())
    assert orjson.loads(asyncapi())["asyncapi"] == "3.0.0"
    assert requests.get(f"{base_url}/api/asyncapi.json", timeout=60).content == asyncapi()


class Seen(HTMLParser):
    """What a page names, and where it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.leads: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.add(str(value))
            if name in {"href", "src", "action", "srcset", "data", "poster", "style"}:
                self.leads.add(str(value))


def test_the_page_for_people_loads_nothing_and_leads_where_it_says(base_url: str) -> None:
    answer = requests.get(f"{base_url}/api/docs", timeout=60)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'unsafe-inline';")
    seen = Seen()
    seen.feed(answer.text)
    assert not seen.tags & {"script", "link", "img", "iframe", "object", "form"}
    assert not any(loading in answer.text for loading in ("url(", "@import"))
    assert {lead for lead in seen.leads if not lead.startswith("#")} == {"/api/openapi.json", "/api/asyncapi.json"}
    assert {lead[1:] for lead in seen.leads if lead.startswith("#")} <= seen.ids
    assert {one.name for one in OPERATIONS} | set(KINDS) <= seen.ids


def test_the_examples_of_the_page_can_be_pasted(base_url: str, headers: dict[str, str]) -> None:
    page = html.unescape(requests.get(f"{base_url}/api/docs", timeout=60).text)
    shown = [shlex.split(line) for line in re.findall(r"<pre>(curl [^<]*)</pre>", page) if "{" not in line]
    assert len(shown) >= 8
    for command in shown:
        url = next(word for word in command if word.startswith("http")).replace("http://127.0.0.1:8080", base_url)
        method = command[command.index("-X") + 1] if "-X" in command else "GET"
        with requests.request(method, url, headers=headers, timeout=60, stream=True) as answer:
            assert answer.ok, command


def test_the_headers_of_answers_are_those_described(base_url: str, headers: dict[str, str]) -> None:
    order = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1"}
    for key in ("1", "2", "2"):
        placed = requests.post(f"{base_url}/api/orders", json=order, headers={**headers, "Idempotency-Key": key})
    described = orjson.loads(openapi())
    names = set(described["components"]["headers"]) - {"Retry-After"}
    one = "/api/orders/{order_id}"
    asked = (
        ("/api/orders?limit=1", "/api/orders"), (placed.headers["Location"], one),
        (f"{placed.headers['Location']}/events", f"{one}/events"), ("/api/tokens",), ("/api/keys",), ("/api/events",),
        ("/api/quotes?tokenIn=SOL&tokenOut=USDC&amount=1", "/api/quotes"),
        ("/api/quotes/stream?tokenIn=SOL&tokenOut=USDC&amount=1", "/api/quotes/stream"), ("/api/stream/orders",),
        ("/livez",),
    )  # fmt: skip
    answers = [(described["paths"]["/api/orders"]["post"]["responses"]["202"], placed)]
    for url, *path in asked:
        with requests.get(base_url + url, headers=headers, timeout=60, stream=True) as answer:
            answers.append((described["paths"][path[0] if path else url]["get"]["responses"]["200"], answer))
    for told, answer in answers:
        assert set(told["headers"]) == {name for name in names if name in answer.headers}, answer.url


def payloads(channel: str) -> dict[str, Any]:
    """The described shape of every message of a channel."""
    described = orjson.loads(asyncapi())
    return {
        name: {**message["payload"], "components": described["components"]}
        for name, message in described["channels"][channel]["messages"].items()
    }


def check(body: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.validate(body, schema, cls=jsonschema.Draft202012Validator)


async def test_what_a_socket_says_is_as_described(base_url: str) -> None:
    shapes, told = payloads("orders"), set[str]()
    async with signed_up(base_url) as client, client.watch() as every:
        order_id = (await client.order())["orderId"]
        await eventually(lambda: every.ended(order_id))
        async with client.session.ws_connect(f"/api/ws/orders?orderId={order_id}") as ws:
            said = [every.snapshot, *every.of(order_id)]
            for ask in (
                {"op": "ping"},
                {"op": "nonsense"},
                {"op": "unsubscribe", "orderIds": [order_id]},
                {"op": "subscribe", "orderIds": [order_id]},
                {"op": "subscribe", "orderIds": ["x"]},
                {"op": "auth", "token": client.token},
            ):
                await ws.send_json(ask)
            while said[-1]["type"] != "authenticated":
                said.append(await ws.receive_json(timeout=60))
    for body in said:
        name = "event" if "version" in body else body["type"]
        told.add(name)
        check(body, shapes[name])
    assert told == {"event", "snapshot", "pong", "error", "unsubscribed", "subscribed", "authenticated"}


async def test_what_the_socket_for_orders_says_is_as_described(base_url: str) -> None:
    shapes, told = payloads("entry"), list[str]()
    order = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1"}
    async with signed_up(base_url) as client, client.session.ws_connect("/api/ws/entry") as ws:
        for ask in (
            {"op": "order.place", "id": "1", "order": order},
            {"op": "order.place", "id": "2", "order": {**order, "amount": 0}},
            {"op": "order.cancel", "orderId": "x"},
            {"op": "ping", "id": "3"},
            {"op": "nonsense"},
            {"op": "auth", "token": client.token},
        ):
            if ask["op"] in shapes:
                check(ask, shapes[ask["op"]])
            await ws.send_json(ask)
            body = await ws.receive_json(timeout=60)
            told.append(body["type"])
            check(body, shapes["result" if body["type"] == "result" else f"answered.{body['type']}"])
    assert told == ["result"] * 3 + ["pong", "error", "authenticated"]


def test_every_address_of_the_gateway_is_described() -> None:
    from services.gateway import app  # noqa: PLC0415

    routes = {
        (method.lower(), path)
        for method, path in _routes(Path(app.__file__).read_text())
        if not path.startswith(("/api/ws/", "/api/stream/"))
    }
    assert routes <= {(one.method, one.path) for one in OPERATIONS}


def _routes(source: str) -> list[tuple[str, str]]:
    return re.findall(r'web\.(get|post|delete)\("([^"]+)"', source)


# Not by `schema.parametrize`: its tests share one name, and of those that do xdist runs the first alone.
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "operation", [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)], ids=lambda one: one.label
)
def test_answers_are_as_described(operation: Any, base_url: str, headers: dict[str, str]) -> None:
    @QUICK
    @given(case=operation.as_strategy())
    def conforms(case: Case[Any]) -> None:
        response = case.call(base_url=base_url, headers=headers)
        case.validate_response(response, checks=CHECKS)

    conforms()


@pytest.mark.timeout(600)
def test_orders_that_were_placed_can_be_followed_by_their_links(base_url: str, headers: dict[str, str]) -> None:
    machine = schema.as_state_machine()

    class Linked(machine):  # type: ignore[misc, valid-type]
        def get_call_kwargs(self, case: Case[Any]) -> dict[str, Any]:
            return {"base_url": base_url, "headers": headers}

        def validate_response(self, response: Any, case: Case[Any], **_: Any) -> None:
            case.validate_response(response, checks=CHECKS)

    Linked.run(settings=settings(QUICK, max_examples=8, stateful_step_count=4))
