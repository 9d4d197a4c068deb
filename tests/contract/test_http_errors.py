"""Whatever is sent, the answer is a problem document with a stable code, and never a 5xx for the client's fault."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from libs.events.memory_log import MemoryLog
from libs.service.health import Health, admin_server, serve
from libs.service.logging import StdlibToStructlog
from services.gateway import limits
from services.gateway.overload import Overload
from services.gateway.reading import read_body
from tests.contract.http_gateway import ORDER, PARTITIONS, Client, gateway
from tests.waiting import eventually


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with gateway() as client:
        yield client


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'tokenIn':1}",
        b"\xff\xfe",
        b'{"tokenIn":"\xff"}',
        b'{"amount":NaN}',
        b'{"amount":Infinity}',
        b'{"amount":-Infinity}',
        b'{"amount":' + b"9" * 5_000 + b"}",
        b'{"amount":1.' + b"0" * 5_000 + b"}",
        b'{"amount":01}',
        b"[" * 30_000,
        b'{"a":' * 10_000,
        b"\xef\xbb\xbf{}",
        '{"tokenIn":"SOL"}'.encode("utf-16"),
    ],
)
async def test_what_is_not_json_is_a_400(client: Client, body: bytes) -> None:
    answer = await client.post(body)
    assert (answer.status, answer.code) == (400, "malformed_body")


async def test_a_body_that_does_not_arrive_is_not_waited_for(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_DEADLINE_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(client.url.rpartition(":")[2]))
    head = f"POST /api/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\nContent-Length: 9\r\n\r\n"
    writer.write(head.encode() + b"{")
    told = await reader.readuntil(b"\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 408 ")
    assert b"retry-after: 1" in told.lower()
    writer.close()


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null", b"true", b"[[]]"])
async def test_what_is_no_object_is_a_422(client: Client, body: bytes) -> None:
    answer = await client.post(body)
    assert (answer.status, answer.code) == (422, "invalid_body")
    assert answer.body["errors"] == [
        {"pointer": "#", "code": "object_expected", "detail": "The body must be a JSON object."}
    ]


LATE = (datetime.now(UTC) + timedelta(days=2)).isoformat()


@pytest.mark.parametrize(
    ("change", "pointer", "code", "hint"),
    [
        ({"tokenIn": "SOLL"}, "#/tokenIn", "unknown_token", "Did you mean SOL"),
        ({"tokenOut": "%%%"}, "#/tokenOut", "unknown_token", "Known are SOL, USDC"),
        ({"tokenOut": "sol"}, "#/tokenOut", "same_token", ""),
        ({"tokenOut": "So11111111111111111111111111111111111111112"}, "#/tokenOut", "same_token", ""),
        ({"tokenIn": 5}, "#/tokenIn", "string_type", ""),
        ({"tokenIn": None}, "#/tokenIn", "string_type", ""),
        ({"tokenIn": "\ud800"}, "#/tokenIn", "string_unicode", ""),
        ({"tokenIn": "x" * 65}, "#/tokenIn", "string_too_long", ""),
        ({"amount": 0}, "#/amount", "amount_invalid", "above zero"),
        ({"amount": -1}, "#/amount", "amount_invalid", "above zero"),
        ({"amount": "-0"}, "#/amount", "amount_invalid", ""),
        ({"amount": True}, "#/amount", "amount_invalid", "plain number"),
        ({"amount": None}, "#/amount", "amount_invalid", ""),
        ({"amount": [10]}, "#/amount", "amount_invalid", ""),
        ({"amount": {"$gt": 0}}, "#/amount", "amount_invalid", ""),
        ({"amount": "ten"}, "#/amount", "amount_invalid", ""),
        ({"amount": "NaN"}, "#/amount", "amount_invalid", ""),
        ({"amount": "1_000"}, "#/amount", "amount_invalid", ""),
        ({"amount": "0.1234567891"}, "#/amount", "amount_invalid", "SOL has 9"),
        ({"amount": 1e300}, "#/amount", "amount_invalid", "too large"),
        ({"amount": "1e999"}, "#/amount", "amount_invalid", "too large"),
        ({"amount": "1e-999"}, "#/amount", "amount_invalid", ""),
        ({"amount": 2**63}, "#/amount", "amount_invalid", "too large"),
        ({"amount": "18446744073.709551616"}, "#/amount", "amount_invalid", "too large"),
        ({"slippageBps": -1}, "#/slippageBps", "greater_than_equal", ""),
        ({"slippageBps": 10_001}, "#/slippageBps", "less_than_equal", ""),
        ({"slippageBps": 0.5}, "#/slippageBps", "int_type", ""),
        ({"slippageBps": "50"}, "#/slippageBps", "int_type", ""),
        ({"slippageBps": True}, "#/slippageBps", "int_type", ""),
        ({"slipageBps": 1}, "#/slipageBps", "extra_forbidden", ""),
        ({"a/b~c": 1}, "#/a~1b~0c", "extra_forbidden", ""),
        ({"\ud800": 1}, "#", "string_unicode", ""),
        ({"expiresAt": "tomorrow"}, "#/expiresAt", "time_invalid", "RFC 3339"),
        ({"expiresAt": "2030-02-30T00:00:00Z"}, "#/expiresAt", "time_invalid", ""),
        ({"expiresAt": "2030-01-01T00:00:00"}, "#/expiresAt", "time_invalid", "offset"),
        ({"expiresAt": "0001-01-01T00:00:00+23:59"}, "#/expiresAt", "time_invalid", ""),
        ({"expiresAt": 1893456000}, "#/expiresAt", "string_type", ""),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "#/expiresAt", "time_out_of_range", "future"),
        ({"expiresAt": LATE}, "#/expiresAt", "time_out_of_range", "24 hours"),
    ],
)
async def test_what_is_wrong_with_an_order_is_named(
    client: Client, change: dict[str, object], pointer: str, code: str, hint: str
) -> None:
    answer = await client.post(json.dumps({**ORDER, **change}).encode())
    assert (answer.status, answer.code) == (422, "invalid_body")
    (error,) = answer.body["errors"]
    assert (error["pointer"], error["code"]) == (pointer, code)
    assert hint in error["detail"]


async def test_all_that_is_wrong_is_named_at_once(client: Client) -> None:
    answer = await client.post({"tokenIn": "SOLL", "tokenOut": "USCD", "amount": 1, "expiresAt": "soon"})
    assert [error["pointer"] for error in answer.body["errors"]] == ["#/tokenIn", "#/tokenOut", "#/expiresAt"]
    nothing = await client.post({})
    assert [error["pointer"] for error in nothing.body["errors"]] == ["#/tokenIn", "#/tokenOut", "#/amount"]
    much = await client.post({f"field{n}": n for n in range(limits.MEMBERS_MAX)})
    assert len(much.body["errors"]) == limits.ERRORS_SHOWN_MAX


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "", "1e2", "٣"])
async def test_an_unusable_limit_is_a_400(client: Client, limit: str) -> None:
    answer = await client.get(f"/api/orders?limit={limit}")
    assert (answer.status, answer.code) == (400, "invalid_parameter")


@pytest.mark.parametrize("query", ["cursor=", "cursor=x", "cursor=%00"])
async def test_an_unusable_cursor_is_a_400(client: Client, query: str) -> None:
    answer = await client.get(f"/api/orders?{query}")
    assert (answer.status, answer.code) == (400, "invalid_parameter")


async def test_an_address_that_is_not_there_is_a_404(client: Client) -> None:
    for path in ("/", "/api", "/api/order", "/api/orders/", "/api/orders/a/b", "/metrics", "/api/auth/email"):
        answer = await client.get(path)
        assert (answer.status, answer.code) == (404, "not_found"), path
        assert "/api/docs" in answer.body["detail"], "where those that are there are told"


async def test_the_examples_of_the_page_name_the_gateway_it_was_asked_of(client: Client) -> None:
    for host, shown in ((None, client.url), ("api.example.com", "http://127.0.0.1:8080"), ("'<b>:1", None)):
        asked = {} if host is None else {"Host": host}
        async with client.session.get(f"{client.url}/api/docs", headers=asked) as answer:
            page = await answer.text()
        assert set(re.findall(r"curl -s(?: -X \w+)? (?:&#x27;)?(http://[\w.:]+)", page)) == {
            shown or "http://127.0.0.1:8080"
        }


async def test_no_cache_keeps_a_refusal_for_somebody_else(client: Client) -> None:
    for refused in (await client.get("/api/orders/by-client-id/x"), await client.get("/api/orders", Authorization="")):
        assert refused.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "request_text",
    [
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 9_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n",
        b"POST /api/orders HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_a_request_that_is_no_http_is_no_error_of_ours_for_operators(client: Client, request_text: bytes) -> None:
    server, ours = logging.getLogger("aiohttp.server"), StdlibToStructlog()
    server.addHandler(ours)
    try:
        with capture_logs() as said:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(client.url.rpartition(":")[2]))
            writer.write(request_text)
            assert (await reader.readline()).split()[1] in (b"400", b"401")
            await reader.read()
            writer.close()
            await eventually(lambda: [line for line in said if line.get("logger") == "aiohttp.server"])
    finally:
        server.removeHandler(ours)
    assert {line["log_level"] for line in said} <= {"debug"}


async def test_a_body_of_a_client_that_was_cut_off_before_it_was_read_is_no_error_of_ours() -> None:
    raised = asyncio.get_running_loop().create_future()

    async def cut_off(request: web.Request) -> web.Response:
        request.protocol.force_close()  # as the door does
        try:
            await read_body(request)
        except Exception as error:
            raised.set_result(error)
            raise
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/", cut_off)])
    async with serve(app, "127.0.0.1", 0) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        assert isinstance(await raised, ConnectionResetError)
        writer.close()


async def test_that_orders_are_refused_is_told_operators_once_and_not_for_each() -> None:
    log = MemoryLog(PARTITIONS)
    overload = Overload(log, wait_s_max=-1, memory_max_bytes=10**15)
    async with gateway(log=log, overload=overload) as client:
        with capture_logs() as said:
            await overload.measure()
            assert {(await client.post()).code for _ in range(3)} == {"overloaded"}
    assert [line["event"] for line in said if line["log_level"] == "warning"] == ["orders_refused"]


async def test_a_method_that_is_not_there_is_a_405_naming_those_that_are(client: Client) -> None:
    for method, path, allowed in (
        ("PUT", "/api/orders", "GET,HEAD,POST"),
        ("GET", "/api/auth/login", "POST"),
        ("POST", "/api/orders/x", "DELETE,GET,HEAD"),
        ("POST", "/api/ws/orders", "GET"),
    ):
        answer = await client.ask(method, path)
        assert (answer.status, answer.code) == (405, "method_not_allowed")
        assert answer.headers["Allow"] == allowed


async def test_a_large_body_is_a_413_whether_it_says_so_or_not(client: Client) -> None:
    large = b'{"tokenIn":"' + b"x" * limits.BODY_BYTES_MAX + b'"}'
    for path in ("/api/orders", "/api/auth/signup", "/api/auth/login"):
        answer = await client.post(large, path)
        assert (answer.status, answer.code) == (413, "body_too_large")

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 16_384):
            yield large[start : start + 16_384]

    headers = {"Authorization": f"Bearer {client.token}", "Content-Type": "application/json"}
    async with client.session.post(f"{client.url}/api/orders", data=pieces(), headers=headers) as response:
        assert response.status == 413
        assert (await response.json(content_type=None))["code"] == "body_too_large"


async def test_what_does_not_call_itself_json_is_a_415(client: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense"):
        answer = await client.post(Content_Type=kind)
        assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert (await client.post(Content_Type="Application/JSON; charset=utf-8")).status == 202


async def test_a_body_that_is_not_compressed_as_it_says_is_a_400(client: Client) -> None:
    answer = await client.post(b"not gzip at all", Content_Encoding="gzip")
    assert (answer.status, answer.code) == (400, "malformed_body")


async def test_every_answer_has_a_request_id_and_a_sane_one_is_kept(client: Client) -> None:
    for sent in ("abc-123", "0197f0a0-0000-7000-8000-000000000000", "a/b+c=@:._"):
        assert (await client.get("/nowhere", X_Request_Id=sent)).headers["X-Request-Id"] == sent
        assert (await client.post(X_Request_Id=sent)).headers["X-Request-Id"] == sent
    made = set()
    for sent in ("", "a b", "x" * 129, '"><script>', "ü"):
        made.add((await client.get("/nowhere", X_Request_Id=sent)).headers["X-Request-Id"])
    assert len(made) == 5
    assert all(len(request_id) == 36 for request_id in made)


async def test_health_is_on_the_public_port_too() -> None:
    health = Health("log", "database")
    health.trouble("database", "password authentication failed for user swaplog at 10.0.0.7")
    async with gateway(health=health) as client:
        assert (await client.get("/livez")).status == 200
        async with client.session.get(f"{client.url}/readyz") as response:
            assert response.status == 503
            assert (await response.json())["reasons"] == {"log": "unavailable", "database": "unavailable"}
        async with (
            admin_server(health, "127.0.0.1", 0) as port,
            client.session.get(f"http://127.0.0.1:{port}/readyz") as response,
        ):
            assert response.status == 503
            assert (await response.json())["reasons"] == health.reasons
        health.ok("log")
        health.ok("database")
        assert (await client.get("/readyz")).status == 200
