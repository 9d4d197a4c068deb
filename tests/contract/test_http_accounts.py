"""Signing up, logging in, and who may ask: over HTTP and a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import jwt
import pytest

from libs.service.tokens import issue_token, verify_token
from services.gateway import auth, limits
from services.gateway.accounts import Accounts, open_database
from tests.contract.http_gateway import SECRET, Client, gateway

SIGNUP, LOGIN = "/api/auth/signup", "/api/auth/login"
ANN = {"email": "ann@example.com", "password": "correct horse", "name": "Ann"}


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[Client]:
    async with open_database(database_url) as pool:
        await pool.execute("TRUNCATE users CASCADE")
        async with gateway(accounts=Accounts(pool)) as client:
            yield client


async def test_who_signs_up_can_place_orders_at_once_and_log_in_later(client: Client) -> None:
    made = await client.post(ANN, SIGNUP, Authorization="")
    assert made.status == 201
    assert made.body.keys() == {"userId", "token", "expiresIn", "refreshToken"}
    assert made.headers["Cache-Control"] == "no-store"
    back = await client.post({"email": ANN["email"], "password": ANN["password"]}, LOGIN, Authorization="")
    assert back.status == 200
    assert back.body["userId"] == made.body["userId"]
    assert verify_token(back.body["token"], SECRET).user_id == made.body["userId"]
    for token in (made.body["token"], back.body["token"]):
        assert (await client.post(Authorization=f"Bearer {token}")).status == 202
    listed = await client.get("/api/orders", Authorization=f"bearer {made.body['token']}")
    assert len(listed.body["orders"]) == 2


async def test_an_email_is_taken_once_however_it_is_written(client: Client) -> None:
    assert (await client.post(ANN, SIGNUP)).status == 201
    for email in ("ann@example.com", "  Ann@Example.COM "):
        answer = await client.post({**ANN, "email": email}, SIGNUP)
        assert (answer.status, answer.code) == (409, "email_taken")
        assert (await client.post({**ANN, "email": email}, LOGIN)).status == 200


async def test_two_at_once_cannot_both_have_it(client: Client) -> None:
    answers = await asyncio.gather(*(client.post(ANN, SIGNUP) for _ in range(6)))
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409, 409]


async def test_a_wrong_email_and_a_wrong_password_cannot_be_told_apart(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.post(ANN, SIGNUP)
    compared: list[str] = []
    real = auth._check

    def check(password: str, kept: str) -> bool:
        compared.append(kept[:7])
        return real(password, kept)

    monkeypatch.setattr(auth, "_check", check)
    documents = []
    for email, password in (
        (ANN["email"], "wrong"),
        ("nobody@example.com", ANN["password"]),
        ("not an email", ANN["password"]),
        ("nul\x00@example.com", "x"),
        (ANN["email"], "x" * 10_000),
        (ANN["email"], ""),
    ):
        answer = await client.post({"email": email, "password": password}, LOGIN)
        assert (answer.status, answer.code) == (401, "credentials_invalid")
        documents.append({k: v for k, v in answer.body.items() if k != "requestId"})
    assert all(document == documents[0] for document in documents)
    # The same work each time: one comparison, against a hash of the same cost.
    assert compared == ["$2b$04$"] * 6


@pytest.mark.parametrize("tail", ["x" * 80, "é" * 60, "nul\x00behind"])
async def test_every_character_of_a_password_counts(client: Client, tail: str) -> None:
    long = {**ANN, "password": "p" * 60 + tail + "1"}
    assert (await client.post(long, SIGNUP)).status == 201
    assert (await client.post(long, LOGIN)).status == 200
    for other in (long["password"][:-1] + "2", long["password"][:-1], long["password"].split("\x00")[0] + "?"):
        assert (await client.post({**long, "password": other}, LOGIN)).status == 401


async def test_passwords_are_kept_as_hashes(client: Client, database_url: str) -> None:
    await client.post(ANN, SIGNUP)
    connection = await asyncpg.connect(database_url)
    row = await connection.fetchrow("SELECT * FROM users")
    await connection.close()
    assert row
    assert row["password_hash"].startswith("$2b$")
    assert ANN["password"] not in str(row)
    assert (row["email"], row["name"]) == ("ann@example.com", "Ann")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"password": "1234567"}, "#/password"),
        ({"password": "x" * 257}, "#/password"),
        ({"password": 12345678}, "#/password"),
        ({"password": None}, "#/password"),
        ({"email": "ann"}, "#/email"),
        ({"email": "ann@localhost"}, "#/email"),
        ({"email": "a b@example.com"}, "#/email"),
        ({"email": "a..b@example.com"}, "#/email"),
        ({"email": ".a@example.com"}, "#/email"),
        ({"email": "a@-example.com"}, "#/email"),
        ({"email": "nul\x00@example.com"}, "#/email"),
        ({"email": "x" * 250 + "@example.com"}, "#/email"),
        ({"email": "\ud800@example.com"}, "#/email"),
        ({"email": ["ann@example.com"]}, "#/email"),
        ({"name": "x" * 101}, "#/name"),
        ({"name": "a\x00b"}, "#/name"),
        ({"name": 1}, "#/name"),
    ],
)
async def test_what_breaks_a_rule_is_named(client: Client, change: dict[str, object], pointer: str) -> None:
    import json  # noqa: PLC0415 - the only writer that can write a lone surrogate

    answer = await client.post(json.dumps({**ANN, **change}).encode(), SIGNUP)
    assert (answer.status, answer.code) == (422, "invalid_body")
    assert [error["pointer"] for error in answer.body["errors"]] == [pointer]
    assert "12345678" not in str(answer.body)


@pytest.mark.parametrize("path", [SIGNUP, LOGIN])
@pytest.mark.parametrize("field", ["email", "password"])
async def test_a_missing_field_is_named(client: Client, path: str, field: str) -> None:
    answer = await client.post({key: value for key, value in ANN.items() if key != field}, path)
    assert (answer.status, answer.code) == (422, "invalid_body")
    assert answer.body["errors"][0]["pointer"] == f"#/{field}"
    assert answer.body["errors"][0]["code"] == "missing"


async def test_a_name_is_optional_and_unknown_fields_do_no_harm(client: Client) -> None:
    body = {"email": "bob@example.com", "password": "12345678", "confirm": "12345678"}
    assert (await client.post(body, SIGNUP)).status == 201


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("", "token_missing"),
        ("Basic YW5uOnBhc3M=", "token_missing"),
        ("Bearer", "token_invalid"),
        ("Bearer  ", "token_invalid"),
        ("Bearer nonsense", "token_invalid"),
        ("Bearer " + "x" * 5_000, "token_invalid"),
        (f"Bearer {issue_token('user-1', 'z' * 40)}", "token_invalid"),
        (f"Bearer {issue_token('user-1', SECRET, lifetime=timedelta(seconds=-1))}", "token_invalid"),
        (f"Bearer {jwt.encode({'sub': 'user-1'}, None, algorithm='none')}", "token_invalid"),
    ],
)
async def test_without_a_valid_token_nothing_of_orders_is_answered(
    client: Client, authorization: str, code: str
) -> None:
    for method, path in (
        ("POST", "/api/orders"),
        ("GET", "/api/orders"),
        ("GET", "/api/orders/x"),
        ("GET", "/api/orders/x/events"),
        ("DELETE", "/api/orders/x"),
    ):
        answer = await client.ask(method, path, Authorization=authorization)
        assert (answer.status, answer.code) == (401, code)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_too_many_sign_ins_at_once_are_sent_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PASSWORDS_WAITING_MAX", 0)
    for path in (SIGNUP, LOGIN):
        answer = await client.post(ANN, path)
        assert (answer.status, answer.code) == (503, "busy")


async def test_who_signs_in_after_others_did_is_let_in(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PASSWORDS_WAITING_MAX", 1)
    statuses = [(await client.post(ANN, path)).status for path in (SIGNUP, SIGNUP, LOGIN, LOGIN, LOGIN)]
    assert statuses == [201, 409, 200, 200, 200]
    assert [(await client.post({**ANN, "password": "wrong horse"}, LOGIN)).status for _ in range(3)] == [401] * 3


async def test_a_database_that_is_away_is_said_to_be() -> None:
    url = "postgresql://nobody:hidden@127.0.0.1:9/none"
    async with open_database(url) as pool, gateway(accounts=Accounts(pool)) as client:
        for path in (SIGNUP, LOGIN):
            answer = await client.post(ANN, path)
            assert (answer.status, answer.code) == (503, "database_unavailable")
            assert "hidden" not in str(answer.body)
        assert (await client.post()).status == 202


async def test_a_goodbye_of_postgres_that_its_driver_did_not_expect_is_postgres_being_away(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ended_just_now(*_anything: object) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")

    monkeypatch.setattr(asyncpg.pool.PoolConnectionProxy, "fetch", ended_just_now)
    answer = await client.post(ANN, SIGNUP)
    assert (answer.status, answer.code) == (503, "database_unavailable")


async def test_accounts_are_made_again_after_the_postgres_we_were_connected_to_was_demoted(
    client: Client, database_url: str
) -> None:
    direct = await asyncpg.connect(database_url)
    name = await direct.fetchval("SELECT current_database()")
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"
    try:
        await direct.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await direct.fetch(others, name)
        assert [(await client.post(ANN, SIGNUP)).status for _ in range(2)] == [503, 503]
        await direct.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert (await client.post(ANN, SIGNUP)).status == 201
    finally:
        await direct.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await direct.close()
