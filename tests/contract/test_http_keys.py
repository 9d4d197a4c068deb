"""Orders over HTTP under an idempotency key: however often it is sent, one order."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from libs.events.ids import partition_of_user
from libs.events.memory_log import MemoryLog
from tests.builders import routing_started, then
from tests.contract.http_gateway import ORDER, PARTITIONS, Client, gateway


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(PARTITIONS)


@pytest.fixture
async def client(log: MemoryLog) -> AsyncIterator[Client]:
    async with gateway(log=log) as client:
        yield client


async def _entries(log: MemoryLog) -> int:
    return (await log.tip(partition_of_user("user-1", PARTITIONS))).position


async def test_the_same_key_and_body_give_the_same_order(client: Client, log: MemoryLog) -> None:
    first = await client.post(Idempotency_Key="k1")
    again = await client.post({"tokenOut": "usdc", "tokenIn": "SOL", "amount": "10.0"}, Idempotency_Key="k1")
    assert (again.status, again.body) == (202, first.body)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert "Idempotent-Replayed" not in first.headers
    assert await _entries(log) == 1


async def test_a_replay_shows_the_order_as_it_is_now(client: Client, log: MemoryLog) -> None:
    made = (await client.post(Idempotency_Key="k1")).body
    held = await log.find(made["orderId"])
    assert held
    await log.commit(then(held, routing_started())[0])
    assert (await client.post(Idempotency_Key="k1")).body["status"] == "ROUTING"


async def test_the_same_key_with_another_body_is_refused(client: Client, log: MemoryLog) -> None:
    await client.post(Idempotency_Key="k1")
    for change in ({"amount": 11}, {"tokenOut": "JUP"}, {"slippageBps": 50}):
        answer = await client.post({**ORDER, **change}, Idempotency_Key="k1")
        assert (answer.status, answer.code) == (422, "idempotency_key_reused")
    assert await _entries(log) == 1


async def test_a_key_belongs_to_its_user(client: Client) -> None:
    mine = await client.post(Idempotency_Key="k1")
    theirs = await client.other("user-2").post({**ORDER, "amount": 1}, Idempotency_Key="k1")
    assert theirs.status == 202
    assert theirs.body["orderId"] != mine.body["orderId"]


async def test_one_key_sent_many_times_at_once_makes_one_order(client: Client, log: MemoryLog) -> None:
    answers = await asyncio.gather(*(client.post(Idempotency_Key="k1") for _ in range(20)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body["orderId"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert await _entries(log) == 1


@pytest.mark.parametrize("key", ["x" * 256, "schlüssel", " ", "a\tb"])
async def test_an_unusable_key_is_refused(client: Client, log: MemoryLog, key: str) -> None:
    answer = await client.post(Idempotency_Key=key)
    assert (answer.status, answer.code) == (400, "invalid_idempotency_key")
    assert await _entries(log) == 0


async def test_the_longest_key_is_accepted(client: Client) -> None:
    assert (await client.post(Idempotency_Key="x" * 255)).status == 202


async def test_a_repetition_outlives_the_end_of_what_was_asked(client: Client, log: MemoryLog) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=0.4)).isoformat()
    keyed, named = {**ORDER, "expiresAt": soon}, {**ORDER, "expiresAt": soon, "clientOrderId": "c1"}
    first = [await client.post(keyed, Idempotency_Key="k1"), await client.post(named)]
    [in_batch] = (await client.post({"orders": [keyed]}, "/api/orders/batch", Idempotency_Key="b")).body["results"]
    await asyncio.sleep(0.5)  # until the orders' time is over
    again = [await client.post(keyed, Idempotency_Key="k1"), await client.post(named)]
    assert [(answer.status, answer.body) for answer in again] == [(202, answer.body) for answer in first]
    [repeated] = (await client.post({"orders": [keyed]}, "/api/orders/batch", Idempotency_Key="b")).body["results"]
    assert repeated == {**in_batch, "replayed": True}
    other = await client.post({**keyed, "amount": 11}, Idempotency_Key="k1")
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    for late in (await client.post(keyed), await client.post(keyed, Idempotency_Key="k2")):
        assert (late.code, late.body["errors"][0]["code"]) == ("invalid_body", "time_out_of_range")
    assert await _entries(log) == 3
