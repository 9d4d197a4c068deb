"""Whoever fears that his password, or a refresh token, is known to somebody else can shut that one out."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from libs.client import Client as ApiClient
from services.gateway.accounts import Accounts
from services.gateway.credentials import Credentials
from tests.contract.credentials_rig import ANN, empty_accounts, made_key, signed_up
from tests.contract.http_gateway import Client

NEW = "staple battery"


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[Client]:
    async with empty_accounts(database_url) as pool, signed_up(pool) as made:
        yield made


async def change(client: Client, new: str = NEW, **other: str) -> Any:
    return await client.post({**ANN, "newPassword": new, **other}, "/api/auth/password", Authorization="")


async def log_in(client: Client, password: str) -> Any:
    return await client.post({**ANN, "password": password}, "/api/auth/login", Authorization="")


async def renewed(client: Client, token: str) -> int:
    answer = await client.post({"refreshToken": token}, "/api/auth/refresh", Authorization="")
    return answer.status


async def test_with_another_password_all_sessions_are_over_but_the_one_it_begins(client: Client) -> None:
    key = await made_key(client, "orders:read")
    before = await log_in(client, ANN["password"])
    changed = await change(client)
    assert (changed.status, changed.body["userId"]) == (200, before.body["userId"])
    assert changed.headers["Cache-Control"] == "no-store"

    for session in (client.user, before.body["refreshToken"]):
        assert await renewed(client, session) == 401
    assert await renewed(client, changed.body["refreshToken"]) == 200
    assert (await log_in(client, ANN["password"])).code == "credentials_invalid"
    assert (await log_in(client, NEW)).status == 200
    listed = await client.get("/api/keys", Authorization=f"Bearer {changed.body['token']}")
    assert [one["keyId"] for one in listed.body["keys"]] == [key["keyId"]], "programs go on"


async def test_an_access_token_that_is_left_over_makes_no_keys_which_would_last(client: Client) -> None:
    before = await log_in(client, ANN["password"])
    left_over = {"Authorization": f"Bearer {before.body['token']}"}
    await made_key(client, "orders:read")
    await change(client)
    for refused in (
        await client.post({"name": "bot", "scopes": ["orders:write"]}, "/api/keys", **left_over),
        await client.get("/api/keys", **left_over),
    ):
        assert (refused.status, refused.code) == (401, "token_invalid")
    assert (await client.get("/api/orders", **left_over)).status == 200, "for the minutes it has left"


async def test_who_logged_out_makes_no_keys(client: Client) -> None:
    await client.post({"refreshToken": client.user}, "/api/auth/logout", Authorization="")
    assert (await client.post({"name": "bot", "scopes": ["orders:write"]}, "/api/keys")).code == "token_invalid"


async def test_a_log_in_that_was_under_way_with_the_old_password_begins_no_session(database_url: str) -> None:
    async with empty_accounts(database_url) as pool, signed_up(pool):
        accounts = Accounts(pool)
        account = await accounts.find(ANN["email"])
        assert account
        assert await accounts.change_password(account, "another hash")
        assert await Credentials(accounts, timedelta(days=1)).begin_session(account) is None
        assert await pool.fetchval("SELECT count(*) FROM sessions") == 0


async def test_the_client_goes_on_with_the_new_session(client: Client) -> None:
    async with ApiClient(client.url) as api:
        user = await api.log_in(**ANN)
        assert await api.change_password(**ANN, new_password=NEW) == user
        assert [order async for order in api.orders()] == []


@pytest.mark.parametrize("other", [{"password": "no idea what"}, {"email": "nobody@example.com"}])
async def test_who_does_not_know_the_old_password_changes_nothing(client: Client, other: dict[str, str]) -> None:
    assert (await change(client, **other)).code == "credentials_invalid"
    assert await renewed(client, client.user) == 200
    assert (await log_in(client, ANN["password"])).status == 200


async def test_a_new_password_is_held_to_what_one_is_at_sign_up(client: Client) -> None:
    answer = await change(client, "short")
    assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, "#/newPassword")


async def test_of_two_who_change_it_at_once_one_is_refused(client: Client, direct: asyncpg.Connection) -> None:
    answers = await asyncio.gather(change(client, "first password"), change(client, "second password"))
    assert sorted(answer.status for answer in answers) == [200, 401]
    assert await direct.fetchval("SELECT count(*) FROM sessions") == 1
