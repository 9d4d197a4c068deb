"""Tickets and rates, in a real Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from libs.service import shared as module
from libs.service.shared import Rate, Shared, SharedUnavailable, Spent, open_shared
from libs.service.tokens import Claims
from services.gateway import limits
from services.gateway.accounts import Accounts, open_database
from tests.contract.http_gateway import ORDER, Answer, Client, gateway
from tests.waiting import eventually

CLAIMS = Claims("user 1", datetime.now(UTC) + timedelta(hours=1))


@pytest.fixture(params=["redis", "cluster"])
def shared_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def shared(shared_url: str) -> AsyncIterator[Shared]:
    async with open_shared(shared_url) as shared:
        yield shared


async def test_a_ticket_is_good_once(shared: Shared, shared_url: str) -> None:
    ticket, until = await shared.make_ticket(CLAIMS)
    assert timedelta(seconds=25) < until - datetime.now(UTC) <= timedelta(seconds=30)
    async with Redis.from_url(shared_url) as redis:
        assert not [key async for key in redis.scan_iter(f"*{ticket}*")]
    taken = await asyncio.gather(*(shared.take_ticket(ticket) for _ in range(10)))
    assert [claims for claims in taken if claims] == [CLAIMS]


async def test_what_is_no_ticket_is_nobody(shared: Shared) -> None:
    assert [await shared.take_ticket(text) for text in ("", "x", "x" * 1_000)] == [None] * 3


async def test_a_ticket_is_good_for_a_moment(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICKET_LIFETIME", timedelta(milliseconds=20))
    ticket, _ = await shared.make_ticket(CLAIMS)
    await asyncio.sleep(0.1)
    assert await shared.take_ticket(ticket) is None


async def test_of_a_rate_all_may_come_at_once_and_no_more(shared: Shared) -> None:
    who, rate = uuid4().hex, Rate(10, 60)
    spent = await asyncio.gather(*(shared.spend(who, rate) for _ in range(15)))
    assert sum(one.allowed for one in spent) == 10
    refused = next(one for one in spent if not one.allowed)
    assert 0 < refused.wait_s <= 6
    assert refused.remaining == 0
    assert 50 < refused.reset_s <= 60
    assert (await shared.spend(uuid4().hex, rate)).remaining == 9


@pytest.mark.parametrize("count", [28, 49, 98])
async def test_all_of_a_rate_may_come_as_one_whatever_its_window_is_parted_into(shared: Shared, count: int) -> None:
    who, rate = uuid4().hex, Rate(count, 60)
    spent = await shared.spend(who, rate, count)
    assert (spent.allowed, spent.remaining) == (True, 0)
    assert not (await shared.spend(who, rate)).allowed


async def test_what_was_spent_comes_back_with_time(shared: Shared) -> None:
    who, rate = uuid4().hex, Rate(2, 0.2)
    assert [(await shared.spend(who, rate)).allowed for _ in range(3)] == [True, True, False]

    async def allowed() -> bool:
        return (await shared.spend(who, rate)).allowed

    await eventually(allowed)


async def test_a_clock_that_was_set_back_refuses_nobody_for_as_long(shared: Shared) -> None:
    who, rate = uuid4().hex, Rate(2, 60)
    key, before_ms = f"swaplog:rate:{who}", (time.time() + 3_600) * 1_000  # when Redis' clock was an hour ahead
    await shared._ask(key, "SET", key, f"{before_ms:.3f}", "PX", 3_660_000)
    assert [(await shared.spend(who, rate)).allowed for _ in range(3)] == [True, True, False]


async def test_a_cost_counts_as_many_and_nothing_is_counted_when_refused(shared: Shared) -> None:
    who, rate = uuid4().hex, Rate(10, 60)
    assert (await shared.spend(who, rate, 7)).allowed
    assert not (await shared.spend(who, rate, 7)).allowed
    assert (await shared.spend(who, rate, 3)).allowed


async def test_a_redis_that_is_away_is_an_error_of_ours() -> None:
    async with open_shared("redis://127.0.0.1:9/0") as away:
        with pytest.raises(SharedUnavailable):
            await away.spend("x", Rate(1, 1))


async def test_who_asks_too_often_is_told_when_to_come_back(shared: Shared) -> None:
    user = uuid4().hex
    async with gateway(shared=shared, rate=Rate(20, 60)) as client:
        mine = client.other(user)
        answers = [await mine.post() for _ in range(22)]
        assert [answer.status for answer in answers] == [202] * 20 + [429] * 2
        assert answers[0].headers["RateLimit-Policy"] == '"writes";q=20;w=60'
        assert answers[0].headers["RateLimit"].startswith('"writes";r=')
        assert answers[-1].code == "rate_limited"
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 4
        # Reading is counted apart, and so are others.
        assert (await mine.get("/api/orders")).status == 200
        assert (await client.other(uuid4().hex).post()).status == 202


async def test_an_order_with_much_in_it_counts_as_more_and_is_permitted_when_told(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RATE_LEASE_S", 0)
    large = {**ORDER, "metadata": {str(n): "x" * 256 for n in range(16)}}  # between one and two times BYTES_PER_WRITE
    async with gateway(shared=shared, rate=Rate(4, 600)) as client:
        mine = client.other(uuid4().hex)
        assert [(await mine.post(large)).status for _ in range(3)] == [202, 202, 429]
        mine = client.other(uuid4().hex)
        assert [(await mine.post(one)).status for one in (ORDER, ORDER, ORDER, large, ORDER)] == [
            202,
            202,
            202,
            429,
            202,
        ]
        batch = {"orders": [large, ORDER]}
        mine = client.other(uuid4().hex)
        assert [(await mine.post(batch, "/api/orders/batch")).status for _ in range(3)] == [202, 202, 429]


async def test_permits_taken_ahead_are_not_more_than_there_are(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RATE_LEASE_S", 360)
    user, ahead = uuid4().hex, 20  # what comes back in that time
    async with gateway(shared=shared, rate=Rate(200, 3600)) as one, gateway(shared=shared, rate=Rate(200, 3600)) as two:
        clients = [one.other(user), two.other(user)]
        answers = await asyncio.gather(*(clients[n % 2].get("/api/orders") for n in range(300)))
    accepted = sum(answer.status == 200 for answer in answers)
    assert accepted <= 200
    assert accepted > 200 - 2 * ahead


async def test_a_batch_uses_the_permits_that_are_left_and_is_refused_whole(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RATE_LEASE_S", 360)
    path = "/api/orders/batch"
    async with gateway(shared=shared, rate=Rate(200, 3600)) as client:
        mine = client.other(uuid4().hex)
        sizes = [99, 1, 60, 99, 30, 1]
        answers = [await mine.post({"orders": [ORDER] * size}, path) for size in sizes]
    assert [answer.status for answer in answers] == [202, 202, 202, 429, 202, 202]


async def test_a_batch_that_can_never_be_permitted_is_told_how_many_can(shared: Shared) -> None:
    async with gateway(shared=shared, rate=Rate(20, 60)) as client:
        mine, ids = client.other(uuid4().hex), [f"order-{n}" for n in range(21)]
        for path, body in (("batch", {"orders": [ORDER] * 21}), ("cancel", {"orderIds": ids})):
            answer = await mine.post(body, f"/api/orders/{path}")
            assert (answer.status, answer.code) == (422, "invalid_body")
            (error,) = answer.body["errors"]
            assert (error["pointer"], error["code"]) == (f"#/{next(iter(body))}", "list_length")
            assert "at most 20" in error["detail"]
        assert (await client.other(uuid4().hex).post({"orders": [ORDER] * 20}, "/api/orders/batch")).status == 202


async def test_a_batch_that_cannot_be_read_is_counted_as_one(shared: Shared) -> None:
    async with gateway(shared=shared, rate=Rate(20, 60)) as client:
        mine = client.other(uuid4().hex)
        answers = [await mine.post({"orders": [ORDER] * 21}, "/api/orders/batch") for _ in range(22)]
    assert [answer.status for answer in answers] == [422] * 20 + [429] * 2


async def test_a_batch_is_taken_when_it_comes_back_as_told(shared: Shared) -> None:
    """One of its permits was lost with each refusal: it was told to come back for ever."""
    path, two = "/api/orders/batch", {"orders": [ORDER] * 2}
    async with gateway(shared=shared, rate=Rate(20, 20)) as client:
        mine = client.other(uuid4().hex)
        assert (await mine.post({"orders": [ORDER] * 20}, path)).status == 202
        refused = await mine.post(two, path)
        assert refused.status == 429
        await asyncio.sleep(int(refused.headers["Retry-After"]))
        assert (await mine.post(two, path)).status == 202


async def test_while_redis_is_away_reading_is_not_refused() -> None:
    async with open_shared("redis://127.0.0.1:9/0") as away, gateway(shared=away) as client:
        assert (await client.get("/api/orders")).status == 200


async def test_a_ticket_of_the_gateway_is_one_the_notifier_takes(shared: Shared) -> None:
    async with gateway(shared=shared) as client:
        made = await client.post(path="/api/auth/tickets", body=None)
        assert made.status == 201
        assert made.headers["Cache-Control"] == "no-store"
        claims = await shared.take_ticket(made.body["ticket"])
    assert claims
    assert claims.user_id == "user-1"


async def test_an_account_is_not_guessed_at_for_ever(shared: Shared, database_url: str) -> None:
    email = f"{uuid4().hex}@example.com"
    async with open_database(database_url) as pool, gateway(shared=shared, accounts=Accounts(pool)) as client:
        tries = [{"email": email, "password": f"guess number {n}"} for n in range(12)]
        answers = [await client.post(body, "/api/auth/login") for body in tries]
    assert [answer.status for answer in answers] == [401] * 10 + [429] * 2


async def test_from_one_address_come_only_so_many_accounts(
    shared: Shared, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SIGNUPS_FROM", Rate(3, 60))
    here = uuid4().hex
    async with (
        open_database(database_url) as pool,
        gateway(shared=shared, accounts=Accounts(pool), proxies=1) as one,
        gateway(shared=shared, accounts=Accounts(pool), proxies=1) as two,
    ):

        async def made(client: Client, address: str) -> Answer:
            body = {"email": f"{uuid4().hex}@example.com", "password": "long enough"}
            return await client.post(body, "/api/auth/signup", Authorization="", X_Forwarded_For=address)

        answers = [await made(client, f"198.51.100.1, {here}") for client in (one, two, one, two)]
        assert [answer.status for answer in answers] == [201] * 3 + [429]
        assert answers[-1].code == "rate_limited"
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 20
        assert (await made(one, uuid4().hex)).status == 201


async def test_nobody_can_lock_another_out(shared: Shared, database_url: str) -> None:
    """Behind one proxy: attempts from one address do not count against another, whatever they write in the header."""
    body = {"email": f"{uuid4().hex}@example.com", "password": "wrong password"}
    async with (
        open_database(database_url) as pool,
        gateway(shared=shared, accounts=Accounts(pool), proxies=1) as client,
    ):

        async def tried(forwarded: str) -> int:
            headers = {"Authorization": "", "X_Forwarded_For": forwarded}
            return (await client.post(body, "/api/auth/login", **headers)).status

        assert [await tried(f"198.51.100.{n}, 203.0.113.1") for n in range(12)] == [401] * 10 + [429] * 2
        assert await tried("203.0.113.2") == 401
        assert await tried("203.0.113.1, 203.0.113.2") == 401
        assert await tried("::ffff:203.0.113.1") == 429
        # Whoever has one address of IPv6 has all that begin with the same half.
        assert [await tried(f"2001:db8:0:1::{n}") for n in range(12)] == [401] * 10 + [429] * 2
        assert [await tried(other) for other in ("2001:db8:0:2::1", "::ffff:203.0.113.3", "unknown")] == [401] * 3


async def test_with_the_port_some_proxies_write_behind_it_an_address_is_the_same(
    shared: Shared, database_url: str
) -> None:
    body = {"email": f"{uuid4().hex}@example.com", "password": "wrong password"}
    async with (
        open_database(database_url) as pool,
        gateway(shared=shared, accounts=Accounts(pool), proxies=1) as client,
    ):

        async def tried(seen: str) -> int:
            headers = {"Authorization": "", "X_Forwarded_For": seen}
            return (await client.post(body, "/api/auth/login", **headers)).status

        assert [await tried(f"203.0.113.1:{n}") for n in range(50_000, 50_012)] == [401] * 10 + [429] * 2
        assert await tried("203.0.113.1") == 429
        assert [await tried(f"[2001:db8:0:1::{n}]:{n + 1}") for n in range(12)] == [401] * 10 + [429] * 2
        assert await tried("2001:db8:0:1::1") == 429


class Silent(Shared):
    """A Redis that answers nobody."""

    def __init__(self) -> None:
        self.asked = 0

    async def spend(self, what: str, rate: Rate, cost: int = 1) -> Spent:
        self.asked += 1
        await asyncio.sleep(0.3)
        raise SharedUnavailable("no answer in time")


async def test_while_redis_is_silent_who_asks_much_waits_no_longer_than_who_asks_once() -> None:
    """Each waited for his own answer, one after another."""
    async with gateway(shared=(silent := Silent())) as client, asyncio.timeout(5):
        answers = await asyncio.gather(*(client.post() for _ in range(40)))
        assert {answer.status for answer in answers} == {202}
        assert silent.asked < 5
        assert (await client.post()).status == 202
