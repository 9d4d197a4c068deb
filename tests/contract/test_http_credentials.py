"""Sessions that renew themselves, secrets that change: over HTTP and a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from libs.service.tokens import issue_token, key_id, verify_token
from services.gateway import limits
from services.gateway.accounts import Accounts
from services.gateway.callers import Callers
from services.gateway.credentials import Credentials
from tests.contract.credentials_rig import ANN, empty_accounts, made_key, signed_up
from tests.contract.http_gateway import OLD_SECRET, SECRET, Client
from tests.waiting import eventually


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with empty_accounts(database_url) as made:
        yield made


@pytest.fixture
async def client(pool: asyncpg.Pool) -> AsyncIterator[Client]:
    async with signed_up(pool) as made:
        yield made


async def renew(client: Client, token: str) -> Any:
    return await client.post({"refreshToken": token}, "/api/auth/refresh", Authorization="")


async def test_an_access_token_is_short_and_a_session_renews_it(client: Client) -> None:
    made = await client.post(ANN, "/api/auth/login", Authorization="")
    claims = verify_token(made.body["token"], SECRET)
    assert made.body["expiresIn"] == 900
    assert claims.expires_at - datetime.now(UTC) < timedelta(minutes=15)
    again = await renew(client, made.body["refreshToken"])
    assert again.status == 200
    assert again.headers["Cache-Control"] == "no-store"
    assert again.body["userId"] == made.body["userId"]
    assert (await client.get("/api/orders", Authorization=f"Bearer {again.body['token']}")).status == 200
    assert (await renew(client, again.body["refreshToken"])).status == 200


async def test_sessions_are_bounded_and_what_is_over_is_forgotten(
    client: Client, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 3)
    made = [await client.post(ANN, "/api/auth/login", Authorization="") for _ in range(4)]
    assert await pool.fetchval("SELECT count(*) FROM sessions") == 3
    statuses = [(await renew(client, one.body["refreshToken"])).status for one in made]
    assert statuses == [401, 200, 200, 200]
    await pool.execute("UPDATE sessions SET expires_at = now() - interval '1 s'")
    await client.post(ANN, "/api/auth/login", Authorization="")
    assert await pool.fetchval("SELECT count(*) FROM sessions") == 1


async def test_a_refresh_token_used_twice_ends_its_session(client: Client) -> None:
    stolen = client.user
    good = await renew(client, stolen)
    thief = await renew(client, stolen)
    assert (thief.status, thief.code) == (401, "refresh_token_invalid")
    assert (await renew(client, good.body["refreshToken"])).status == 401
    # Another session of the same user goes on.
    other = await client.post(ANN, "/api/auth/login")
    assert (await renew(client, other.body["refreshToken"])).status == 200


async def test_of_many_renewals_at_once_at_most_one_succeeds(client: Client) -> None:
    answers = await asyncio.gather(*(renew(client, client.user) for _ in range(8)))
    assert sum(answer.status == 200 for answer in answers) <= 1


@pytest.mark.parametrize(
    "token", ["", "x", "swr_", "swr_x_y", "swr_01a205c4-6fe7-7367-94f4-2ccd80d6a003_secret", "x" * 201]
)
async def test_what_is_no_refresh_token_is_refused(client: Client, token: str) -> None:
    assert (await renew(client, token)).status in {401, 422}


async def test_who_logs_out_cannot_renew(client: Client) -> None:
    for _ in range(2):
        answer = await client.post({"refreshToken": client.user}, "/api/auth/logout", Authorization="")
        assert answer.status == 204
    assert (await renew(client, client.user)).status == 401


async def test_a_session_that_is_too_old_is_over(client: Client, pool: asyncpg.Pool) -> None:
    await pool.execute("UPDATE sessions SET expires_at = now()")
    assert (await renew(client, client.user)).status == 401


async def test_no_secret_is_kept(client: Client, pool: asyncpg.Pool) -> None:
    key = await made_key(client, "orders:read")
    rows = [*await pool.fetch("SELECT * FROM sessions"), *await pool.fetch("SELECT * FROM api_keys")]
    kept = " ".join(str(value) for row in rows for value in row.values())
    assert len(rows) == 2
    assert key["key"].rpartition("_")[2] not in kept
    assert client.user.rpartition("_")[2] not in kept


@pytest.mark.parametrize(
    "header", [b"Authorization: Bearer \xff", b"Authorization: Bearer swk_\xff", b"X-API-Key: swk_\xff"]
)
async def test_a_credential_that_is_no_text_is_refused(client: Client, header: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(client.url.rpartition(":")[2]))
    writer.write(b"GET /api/orders HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_tokens_of_the_secret_before_hold_until_they_expire(client: Client) -> None:
    token = issue_token("user-1", OLD_SECRET)
    assert key_id(OLD_SECRET) != key_id(SECRET)
    assert (await client.get("/api/orders", Authorization=f"Bearer {token}")).status == 200
    stranger = issue_token("user-1", "a secret that nobody here ever used")
    assert (await client.get("/api/orders", Authorization=f"Bearer {stranger}")).code == "token_invalid"


async def test_a_credential_speaks_for_nobody_else_who_was_named_beside_it(client: Client) -> None:
    mine, stranger = client.token, issue_token("user-1", "a secret that nobody here ever used")
    for beside in ("", f"Bearer {stranger}"):
        answer = await client.get("/api/orders", Authorization=beside, X_API_Key=mine)
        assert answer.status == 200
        assert (await client.get("/api/orders", Authorization=beside)).status == 401


async def test_a_token_that_was_good_is_refused_when_its_time_is_over(client: Client) -> None:
    token = issue_token("user-1", SECRET, lifetime=timedelta(seconds=2))
    mine = {"Authorization": f"Bearer {token}"}
    assert (await client.get("/api/orders", **mine)).status == 200

    async def refused() -> bool:
        return (await client.get("/api/orders", **mine)).code == "token_invalid"

    await eventually(refused)


async def test_of_tokens_and_keys_that_were_shown_so_many_are_remembered(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may send as many as he likes."""
    monkeypatch.setattr(limits, "TOKENS_KNOWN_MAX", 2)
    monkeypatch.setattr(limits, "API_KEYS_SEEN_MAX", 2)
    credentials = Credentials(Accounts(pool), timedelta(days=1))
    callers = Callers(credentials, (SECRET,))
    for user in ("user-1", "user-2", "user-3", "user-1"):
        token = issue_token(user, SECRET)
        assert (await callers.by_text(token, "orders:read")).user == user
        assert await credentials.key_of(f"swk_{uuid4()}_{user}") is None
    assert (len(callers._known), len(credentials._seen)) == (2, 2)
