"""Who may place orders on a socket, for how long, and how many sockets there are."""

import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientConnectionResetError, WSServerHandshakeError

from libs.service.door import OF_OUR_OWN
from libs.service.tokens import issue_token
from services.gateway import limits
from tests.contract.entry_rig import asked, closed_with, connect, place
from tests.contract.http_gateway import SECRET, Client, gateway
from tests.waiting import eventually


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with gateway() as client:
        yield client


async def test_who_may_not_place_orders_is_not_let_in(client: Client) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await connect(client, "nonsense")
    assert refused.value.status == 401
    for first in ({"op": "auth", "token": "nonsense"}, place("1")):
        async with connect(client, "") as ws:
            await ws.send_json(first)
            assert (await closed_with(ws))[0] == 4401
    async with connect(client, "") as ws:
        told, result = await asked(ws, {"op": "auth", "id": "me", "token": client.token}, place("1"))
        assert (told["type"], told["id"]) == ("authenticated", "me")
        assert datetime.fromisoformat(told["expiresAt"]) > datetime.now(UTC)
        assert result["status"] == 202


async def test_a_token_ends_and_can_be_renewed_in_time(client: Client) -> None:
    short = issue_token(client.user, SECRET, lifetime=timedelta(seconds=2))
    async with connect(client, short) as left, connect(client, short) as renewed:
        (told,) = await asked(renewed, {"op": "auth", "id": "again", "token": client.token})
        assert (told["type"], told["id"]) == ("authenticated", "again")
        assert await closed_with(left) == (4401, "token expired, reconnect")
        assert (await asked(renewed, place("1")))[0]["status"] == 202
        await renewed.send_json({"op": "auth", "token": issue_token("bob", SECRET)})
        assert (await closed_with(renewed))[0] == 4401


@pytest.mark.parametrize("name", [None, 3, "x" * 256])
async def test_who_says_who_he_is_under_no_name_is_let_in_all_the_same(client: Client, name: object) -> None:
    async with connect(client, "") as ws:
        (told,) = await asked(ws, {"op": "auth", "id": name, "token": client.token})
        assert (told["type"], told["id"]) == ("authenticated", None)


@pytest.mark.parametrize(("limit", "status"), [("ENTRY_SOCKETS_PER_USER_MAX", 429), ("ENTRY_SOCKETS_MAX", 503)])
async def test_as_many_sockets_as_may_be_and_who_leaves_makes_room(
    client: Client, monkeypatch: pytest.MonkeyPatch, limit: str, status: int
) -> None:
    monkeypatch.setattr(limits, limit, 1)

    async def let_in() -> bool:
        try:
            ws = await connect(client)
        except WSServerHandshakeError:
            return False  # the one before is not seen to have left yet
        async with ws:
            assert (await asked(ws, {"op": "ping"}))[0]["type"] == "pong"
            with pytest.raises(WSServerHandshakeError) as refused:
                await connect(client)
            assert refused.value.status == status
        return True

    for _ in range(3):
        await eventually(let_in, within_s=30)


async def test_sockets_for_orders_leave_open_files_for_requests(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (2 * OF_OUR_OWN, 2 * OF_OUR_OWN))
    async with AsyncExitStack() as stack:

        async def open_as_many_as_a_user_may() -> None:
            for _ in range(limits.ENTRY_SOCKETS_PER_USER_MAX):
                await stack.enter_async_context(connect(client))

        with pytest.raises(WSServerHandshakeError, match="503"):
            await open_as_many_as_a_user_may()


async def test_strangers_keep_nobody_out_who_says_who_he_is(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRY_SOCKETS_MAX", 5)
    monkeypatch.setattr(limits, "ENTRY_STRANGERS_MAX", 1)
    async with AsyncExitStack() as stack:
        known = await stack.enter_async_context(connect(client))
        late = await stack.enter_async_context(connect(client, token=""))
        for _ in range(10):
            before, late = late, await stack.enter_async_context(connect(client, token=""))
            assert (await closed_with(before))[0] == 1006
        assert (await asked(late, {"op": "auth", "token": client.token}))[0]["type"] == "authenticated"
        await stack.enter_async_context(connect(client, token=""))
        for one in (known, late):
            assert (await asked(one, {"op": "ping"}))[0]["type"] == "pong"


async def test_who_only_pings_and_never_says_who_he_is_is_not_kept(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ENTRY_AUTH_WAIT_S", 0.5)
    async with connect(client, token="") as ws:

        async def closed() -> bool:
            with suppress(ClientConnectionResetError):
                await ws.ping()
            with suppress(TimeoutError):
                await ws.receive(timeout=0.1)
            return bool(ws.closed)

        await eventually(closed, within_s=30)
        assert ws.close_code == 4401


async def test_who_says_who_he_is_has_as_many_sockets_as_may_be(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ENTRY_SOCKETS_PER_USER_MAX", 1)
    async with connect(client, "") as first, connect(client, "") as second:
        assert (await asked(first, {"op": "auth", "token": client.token}))[0]["type"] == "authenticated"
        await second.send_json({"op": "auth", "token": client.token})
        assert await closed_with(second) == (4429, "too many connections of this user")
