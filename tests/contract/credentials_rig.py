"""Somebody who has signed up, and the keys she makes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from services.gateway.accounts import Accounts, open_database
from tests.contract.http_gateway import Client, gateway

ANN = {"email": "ann@example.com", "password": "correct horse"}


@asynccontextmanager
async def empty_accounts(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_database(database_url) as pool:
        await pool.execute("TRUNCATE users CASCADE")
        yield pool


@asynccontextmanager
async def signed_up(pool: asyncpg.Pool) -> AsyncIterator[Client]:
    async with gateway(accounts=Accounts(pool)) as client:
        made = await client.post(ANN, "/api/auth/signup")
        client.token = made.body["token"]
        client.user = made.body["refreshToken"]
        yield client


async def made_key(client: Client, *scopes: str, **fields: object) -> Any:
    answer = await client.post({"name": "bot", "scopes": list(scopes), **fields}, "/api/keys")
    assert answer.status == 201, answer
    return answer.body
