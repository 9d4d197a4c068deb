"""API keys over HTTP and a real Postgres: what they may do, how long they hold, and that they can be taken away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from libs.service.shared import Rate, open_shared
from services.gateway import limits
from services.gateway.accounts import Accounts
from tests.contract.credentials_rig import ANN, empty_accounts, made_key, signed_up
from tests.contract.http_gateway import ORDER, Client, gateway
from tests.servers import flush_redis

HOUR = timedelta(hours=1)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with empty_accounts(database_url) as made:
        yield made


@pytest.fixture
async def client(pool: asyncpg.Pool) -> AsyncIterator[Client]:
    async with signed_up(pool) as made:
        yield made


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
async def test_an_api_key_may_do_what_its_scopes_say(client: Client, header: str) -> None:
    def sent(key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if header == "Authorization" else {"Authorization": "", header: key}

    reads, writes = await made_key(client, "orders:read"), await made_key(client, "orders:write")
    assert (await client.post(**sent(writes["key"]))).status == 202
    assert len((await client.get("/api/orders", **sent(reads["key"]))).body["orders"]) == 1
    for answer in (await client.get("/api/orders", **sent(writes["key"])), await client.post(**sent(reads["key"]))):
        assert (answer.status, answer.code) == (403, "scope_missing")


async def test_an_api_key_cannot_make_keys(client: Client) -> None:
    key = await made_key(client, *limits.SCOPES)
    answer = await client.post({"name": "x", "scopes": ["orders:read"]}, "/api/keys", X_API_Key=key["key"])
    assert (answer.status, answer.code) == (403, "scope_missing")


async def test_keys_are_listed_without_their_secret_and_can_be_deleted(client: Client) -> None:
    first, second = await made_key(client, "orders:read"), await made_key(client, "orders:read", name="other")
    assert (await client.get("/api/orders", Authorization=f"Bearer {first['key']}")).status == 200
    listed = (await client.get("/api/keys")).body["keys"]
    assert [key["keyId"] for key in listed] == [second["keyId"], first["keyId"]]
    assert all("key" not in key for key in listed)
    path = f"/api/keys/{first['keyId']}"
    assert (await client.ask("DELETE", path)).status == 204
    assert (await client.ask("DELETE", path)).code == "api_key_not_found"
    assert (await client.get("/api/orders", Authorization=f"Bearer {first['key']}")).code == "token_invalid"
    assert (await client.ask("DELETE", "/api/keys/nonsense")).status == 404


async def test_of_keys_made_at_once_there_are_no_more_than_may_be(
    client: Client, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "API_KEYS_MAX", 2)
    await made_key(client, "orders:read")
    async with pool.acquire() as connection, connection.transaction():
        # Another gateway makes one, and has not committed it yet.
        await connection.execute("SELECT 1 FROM users FOR NO KEY UPDATE")
        await connection.execute(
            "INSERT INTO api_keys (id, user_id, name, key_hash, scopes)"
            " SELECT gen_random_uuid(), user_id, name, 'x', scopes FROM api_keys"
        )
        late = asyncio.create_task(client.post({"name": "bot", "scopes": ["orders:read"]}, "/api/keys"))
        await asyncio.sleep(0.3)  # until it has counted, or waits for its turn
    assert (await late).code == "too_many_api_keys"
    assert len((await client.get("/api/keys")).body["keys"]) == 2


@pytest.mark.parametrize("name", ["urn:uuid:01a205c4-6fe7-7367-94f4-2ccd80d6a003", "1_0" * 10 + "11", "\u0661" * 32])
async def test_what_python_alone_reads_as_an_id_is_none_and_not_a_database_that_is_away(
    client: Client, name: str
) -> None:
    assert (await client.ask("DELETE", f"/api/keys/{name}")).code == "api_key_not_found"
    if name.isascii():
        assert (await client.get("/api/orders", Authorization=f"Bearer swk_{name}_x")).code == "token_invalid"
    answer = await client.post({"refreshToken": f"swr_{name}_x"}, "/api/auth/refresh", Authorization="")
    assert answer.code == "refresh_token_invalid"
    assert (await client.post({"refreshToken": f"swr_{name}_x"}, "/api/auth/logout", Authorization="")).status == 204


@pytest.mark.parametrize(("told_after", "spelled"), [(False, str.lower), (False, str.upper), (True, str.lower)])
async def test_a_key_in_use_while_it_is_deleted_is_worth_nothing_after(
    pool: asyncpg.Pool, told_after: bool, spelled: Callable[[str], str]
) -> None:
    read, deleted = asyncio.Event(), asyncio.Event()
    using: list[asyncio.Task[Any]] = []

    class Meanwhile(Accounts):
        async def row(self, statement: str, *values: object) -> asyncpg.Record | None:
            deletes = statement.startswith("DELETE FROM api_keys")
            if deletes:
                using.append(asyncio.create_task(used()))
                await (read.wait() if told_after else using[0])
            row = await super().row(statement, *values)
            if deletes:
                deleted.set()
            elif statement.startswith("SELECT * FROM api_keys"):
                read.set()
                if told_after:
                    await deleted.wait()
            return row

    async with gateway(accounts=Meanwhile(pool)) as client:
        client.token = (await client.post(ANN, "/api/auth/signup")).body["token"]
        key = await made_key(client, "orders:read")

        async def used() -> Any:
            return await client.get("/api/orders", Authorization=f"Bearer {key['key']}")

        assert (await client.ask("DELETE", f"/api/keys/{spelled(key['keyId'])}")).status == 204
        await using[0]
        assert (await used()).code == "token_invalid"


async def test_keys_of_others_are_not_there(client: Client) -> None:
    key = await made_key(client, "orders:read")
    bob = (await client.post({**ANN, "email": "bob@example.com"}, "/api/auth/signup")).body["token"]
    assert (await client.get("/api/keys", Authorization=f"Bearer {bob}")).body == {"keys": []}
    answer = await client.ask("DELETE", f"/api/keys/{key['keyId']}", Authorization=f"Bearer {bob}")
    assert answer.status == 404


async def test_a_wrong_or_expired_key_is_refused(client: Client, pool: asyncpg.Pool) -> None:
    ends = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
    key = (await made_key(client, "orders:read", expiresAt=ends))["key"]
    wrong = [key[:-1] + ("a" if key[-1] != "a" else "b"), "swk_x_y", "swk_" + "x" * 300]
    for text in wrong:
        assert (await client.get("/api/orders", Authorization=f"Bearer {text}")).code == "token_invalid"
    await pool.execute("UPDATE api_keys SET expires_at = now()")
    assert (await client.get("/api/orders", Authorization=f"Bearer {key}")).code == "token_invalid"


@pytest.mark.parametrize("ends", [None, "2999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.9999999Z"])
async def test_what_a_key_opens_lasts_an_hour_and_not_as_long_as_the_key(
    pool: asyncpg.Pool, redis_url: str, ends: str | None
) -> None:
    async with open_shared(redis_url) as shared, gateway(accounts=Accounts(pool), shared=shared) as client:
        client.token = (await client.post(ANN, "/api/auth/signup")).body["token"]
        key = await made_key(client, "orders:read", expiresAt=ends)
        ticket = (await client.post(None, "/api/auth/tickets", X_API_Key=key["key"])).body["ticket"]
        claims = await shared.take_ticket(ticket)
        assert claims
        assert claims.expires_at - datetime.now(UTC) <= limits.API_KEY_SOCKET
        # To the notifier, which is away here.
        assert (await client.get("/api/stream/orders", X_API_Key=key["key"])).code == "notifier_unavailable"


async def test_keys_are_asked_about_as_often_as_anything_else(pool: asyncpg.Pool, redis_url: str) -> None:
    await asyncio.to_thread(flush_redis, redis_url)
    async with (
        open_shared(redis_url) as shared,
        gateway(accounts=Accounts(pool), shared=shared, rate=Rate(3, 3_600)) as client,
    ):
        client.token = (await client.post(ANN, "/api/auth/signup")).body["token"]
        key = await made_key(client, "orders:read")
        assert (await client.get("/api/keys")).status == 200
        assert (await client.ask("DELETE", f"/api/keys/{key['keyId']}")).status == 204
        made = await client.post({"name": "x", "scopes": ["orders:read"]}, "/api/keys")
        for refused in (made, await client.get("/api/keys"), await client.ask("DELETE", "/api/keys/x")):
            assert (refused.status, refused.code) == (429, "rate_limited")


async def test_a_user_has_so_many_keys_and_no_more(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "API_KEYS_MAX", 2)
    for _ in range(2):
        await made_key(client, "orders:read")
    answer = await client.post({"name": "x", "scopes": ["orders:read"]}, "/api/keys")
    assert (answer.status, answer.code) == (409, "too_many_api_keys")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "", "scopes": ["orders:read"]}, "#/name"),
        ({"name": "a\nb", "scopes": ["orders:read"]}, "#/name"),
        ({"name": "x", "scopes": []}, "#/scopes"),
        ({"name": "x", "scopes": ["orders:read", "admin"]}, "#/scopes/1"),
        ({"name": "x", "scopes": ["orders:read"], "expiresAt": "2001-01-01T00:00:00Z"}, "#/expiresAt"),
    ],
)
async def test_a_key_that_cannot_be_is_told_why(client: Client, body: object, pointer: str) -> None:
    answer = await client.post(body, "/api/keys")
    assert answer.code == "invalid_body"
    assert [fault["pointer"] for fault in answer.body["errors"]] == [pointer]


@pytest.mark.parametrize(("holds", "lasts"), [(timedelta(days=90), HOUR), (HOUR / 6, HOUR / 6)])
async def test_a_connection_with_a_key_lasts_an_hour_or_as_long_as_the_key(
    client: Client, holds: timedelta, lasts: timedelta
) -> None:
    ends = (datetime.now(UTC) + holds).isoformat()
    key = (await made_key(client, "orders:write", expiresAt=ends))["key"]
    headers = {"Authorization": f"Bearer {client.token}"}
    async with client.session.ws_connect(f"{client.url}/api/ws/entry", headers=headers) as ws:
        await ws.send_json({"op": "auth", "token": key})
        told = await ws.receive_json(timeout=60)
    assert datetime.fromisoformat(told["expiresAt"]) - datetime.now(UTC) < lasts


async def test_who_deletes_a_key_ends_what_is_placed_with_it_on_open_sockets(client: Client) -> None:
    key, url = await made_key(client, "orders:write"), f"{client.url}/api/ws/entry"
    by_header = client.session.ws_connect(url, headers={"X-API-Key": key["key"]})
    statuses = []
    async with by_header as first, client.session.ws_connect(url) as second:
        await second.send_json({"op": "auth", "token": key["key"]})
        assert (await second.receive_json(timeout=60))["type"] == "authenticated"
        for deleted in (False, True):
            if deleted:
                assert (await client.ask("DELETE", f"/api/keys/{key['keyId']}")).status == 204
            for ws in (first, second):
                await ws.send_json({"op": "order.place", "order": ORDER})
                statuses.append((await ws.receive_json(timeout=60))["status"])
    assert statuses == [202, 202, 401, 401]
