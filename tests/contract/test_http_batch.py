"""Many orders in one request: each is checked, written and answered as if it had come alone."""

from typing import Any, ClassVar

import pytest

from libs.events.errors import LogUnavailable, OutcomeUnknown
from libs.events.log import Outcome, Step
from libs.events.memory_log import MemoryLog
from services.gateway import limits
from tests.contract.http_gateway import PARTITIONS, gateway

PATH = "/api/orders/batch"
ORDER = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"}


def batch(*orders: Any) -> dict[str, Any]:
    return {"orders": list(orders)}


async def test_all_are_accepted_and_can_be_read() -> None:
    async with gateway() as client:
        answer = await client.post(batch(*[ORDER] * limits.ORDERS_PER_BATCH_MAX), PATH)
        assert (answer.status, answer.body["accepted"]) == (202, limits.ORDERS_PER_BATCH_MAX)
        ids = {result["order"]["orderId"] for result in answer.body["results"]}
        assert len(ids) == limits.ORDERS_PER_BATCH_MAX
        assert {result["status"] for result in answer.body["results"]} == {202}
        for order_id in list(ids)[:3]:
            assert (await client.get(f"/api/orders/{order_id}")).body["status"] == "pending".upper()


async def test_what_is_wrong_with_one_is_its_own_outcome() -> None:
    async with gateway() as client:
        wrong = [{**ORDER, "tokenIn": "SOLL"}, {**ORDER, "slipageBps": 1}, 7, {**ORDER, "amount": "0"}]
        answer = await client.post(batch(ORDER, *wrong, ORDER), PATH)
        assert (answer.status, answer.body["accepted"]) == (207, 2)
        results = answer.body["results"]
        assert [result["status"] for result in results] == [202, 422, 422, 422, 422, 202]
        problem = results[1]["problem"]
        assert (problem["code"], problem["errors"][0]["pointer"]) == ("invalid_body", "#/tokenIn")
        assert "Did you mean SOL?" in problem["detail"]
        assert problem["requestId"] == answer.headers["X-Request-Id"]


async def test_the_key_of_the_request_stands_for_one_of_each_order() -> None:
    async with gateway() as client:
        first = await client.post(batch(ORDER, ORDER), PATH, Idempotency_Key="k")
        again = await client.post(batch(ORDER, ORDER), PATH, Idempotency_Key="k")
        one = await client.post(ORDER, Idempotency_Key="k/1")
        ids = [result["order"]["orderId"] for result in first.body["results"]]
        assert [result["order"]["orderId"] for result in again.body["results"]] == ids
        assert [result.get("replayed") for result in again.body["results"]] == [True, True]
        assert one.body["orderId"] == ids[1]


async def test_an_order_with_an_id_of_the_clients_has_its_key_in_it() -> None:
    async with gateway() as client:
        asked = batch({**ORDER, "clientOrderId": "mine"}, ORDER)
        first = await client.post(asked, PATH, Idempotency_Key="k")
        assert (first.status, first.body["accepted"]) == (202, 2)
        again = await client.post(asked, PATH, Idempotency_Key="k")
        assert [result.get("replayed") for result in again.body["results"]] == [True, True]
        named, keyed = (result["order"]["orderId"] for result in first.body["results"])
        assert (await client.get("/api/orders/by-client-id/mine")).body["orderId"] == named
        assert (await client.post(ORDER, Idempotency_Key="k/1")).body["orderId"] == keyed


async def test_an_order_may_bring_its_own_key_and_a_reused_one_is_told() -> None:
    async with gateway() as client:
        mine, other = {**ORDER, "idempotencyKey": "mine"}, {**ORDER, "idempotencyKey": "mine", "amount": "2"}
        answer = await client.post(
            batch(mine, mine, other, *({**ORDER, "idempotencyKey": key} for key in (" ", ""))), PATH
        )
        results = answer.body["results"]
        assert [result["status"] for result in results] == [202, 202, 422, 422, 422]
        assert results[0]["order"]["orderId"] == results[1]["order"]["orderId"]
        assert results[2]["problem"]["code"] == "idempotency_key_reused"
        for unusable in results[3:]:
            assert unusable["problem"]["errors"][0]["pointer"] == "#/idempotencyKey"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"orders": []}, "list_length"),
        ({"orders": [ORDER] * 101}, "list_length"),
        ({"orders": ORDER}, "list_expected"),
        ({"orders": [ORDER], "key": "x"}, "list_expected"),
        ({}, "list_expected"),
    ],
)
async def test_a_batch_that_is_none_is_refused_whole(body: object, code: str) -> None:
    async with gateway() as client:
        answer = await client.post(body, PATH)
        assert (answer.status, answer.code) == (422, "invalid_body")
        assert answer.body["errors"][0]["code"] == code


async def test_a_log_that_is_away_is_the_outcome_of_each() -> None:
    class Away(MemoryLog):
        async def commit(self, step: Step) -> Outcome:
            raise LogUnavailable("away")

    async with gateway(log=Away(PARTITIONS)) as client:
        answer = await client.post(batch(ORDER, ORDER), PATH)
        assert (answer.status, answer.body["accepted"]) == (207, 0)
        assert [result["problem"]["code"] for result in answer.body["results"]] == ["log_unavailable"] * 2


async def test_a_user_with_as_many_open_orders_as_may_be_is_told_and_one_cancel_makes_room() -> None:
    async with gateway(open_orders_max=2) as client:
        first = await client.post(ORDER, Idempotency_Key="k")
        answer = await client.post(batch(ORDER, ORDER, {**ORDER, "idempotencyKey": "k"}), PATH)
        assert [result["status"] for result in answer.body["results"]] == [202, 409, 202]
        problem = answer.body["results"][1]["problem"]
        assert (problem["code"], problem["openOrders"], problem["retryable"]) == ("too_many_open_orders", 2, False)

        refused = await client.post(ORDER, Idempotency_Key="l")
        assert (refused.status, refused.code) == (409, "too_many_open_orders")
        assert (await client.other("user-2").post(ORDER)).status == 202
        await client.ask("DELETE", f"/api/orders/{first.body['orderId']}")
        assert (await client.post(ORDER, Idempotency_Key="l")).status == 202


async def test_it_needs_a_token() -> None:
    async with gateway() as client:
        assert (await client.post(batch(ORDER), PATH, Authorization="")).status == 401


async def test_lost_replies_are_asked_after_and_make_no_second_order() -> None:
    class Lossy(MemoryLog):
        lost: ClassVar[set[str]] = set()

        async def commit(self, step: Step) -> Outcome:
            outcome = await super().commit(step)
            if step.order_id not in self.lost:
                self.lost.add(step.order_id)
                raise OutcomeUnknown("reset")
            return outcome

    log = Lossy(PARTITIONS)
    async with gateway(log=log) as client:
        answer = await client.post(batch(ORDER, {**ORDER, "idempotencyKey": "k"}, {**ORDER, "amount": 0}, ORDER), PATH)
        assert [result["status"] for result in answer.body["results"]] == [202, 202, 422, 202]
        assert not any("replayed" in result for result in answer.body["results"])
    assert sum([(await log.tip(partition)).position for partition in range(PARTITIONS)]) == 3


async def test_what_the_log_has_no_room_for_is_refused_and_the_rest_is_in_it() -> None:
    class Full(MemoryLog):
        room = 2

        async def commit(self, step: Step) -> Outcome:
            self.room -= 1
            if self.room < 0:
                raise LogUnavailable("too many wait already")
            return await super().commit(step)

    async with gateway(log=Full(PARTITIONS)) as client:
        answer = await client.post(batch(*[ORDER] * 4), PATH)
        assert [result["status"] for result in answer.body["results"]] == [202, 202, 503, 503]
