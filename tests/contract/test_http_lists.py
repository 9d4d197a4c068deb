"""Finding orders again: filters, the client's own ids, ETags, cancelling one or many."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.events.ids import new_order_id
from libs.events.log import RECENT_MAX, Entry, Outcome, Step
from libs.events.memory_log import MemoryLog
from libs.events.model import OrderCancelled
from libs.orders.store import open_store
from services.gateway import placing
from tests.builders import a_request, route_selected, routing_started, then, tx_submitted
from tests.contract.http_gateway import ORDER, PARTITIONS, Client, gateway


class Stage(MemoryLog):
    """A log in which orders can be moved on."""

    async def moves(self, order_id: str, *bodies: Any) -> None:
        held = await self.find(order_id)
        assert held
        for body in bodies:
            step, held = then(held, body)
            await self.commit(step)


@pytest.fixture
def log() -> Stage:
    return Stage(PARTITIONS)


@pytest.fixture
async def client(log: Stage) -> AsyncIterator[Client]:
    async with gateway(log=log) as client:
        yield client


async def placed(client: Client, **fields: object) -> str:
    answer = await client.post({**ORDER, **fields})
    assert answer.status == 202, answer
    return str(answer.body["orderId"])


async def listed(client: Client, query: str) -> list[str]:
    answer = await client.get(f"/api/orders?{query}")
    assert answer.status == 200, answer
    return [order["orderId"] for order in answer.body["orders"]]


async def test_a_list_that_would_have_a_hole_is_refused_until_it_has_none(client: Client, log: Stage) -> None:
    await log.commit_many([a_request(PARTITIONS, client.user)[0] for _ in range(RECENT_MAX + 100)])
    page = await client.get("/api/orders?limit=200")
    while page.status == 200 and (cursor := page.body["nextCursor"]):
        page = await client.get(f"/api/orders?limit=200&cursor={cursor}")
    assert (page.status, page.code) == (503, "database_unavailable")
    assert "behind" in page.body["detail"]


async def test_a_list_may_be_of_some_statuses(client: Client, log: Stage) -> None:
    pending, routing, cancelled = [await placed(client) for _ in range(3)]
    await log.moves(routing, routing_started())
    await client.ask("DELETE", f"/api/orders/{cancelled}")
    assert await listed(client, "status=ROUTING") == [routing]
    assert await listed(client, "status=cancelled,PENDING") == [cancelled, pending]
    assert await listed(client, "status=CANCELLED&status=PENDING") == [cancelled, pending]
    assert (await client.get("/api/orders?status=DONE")).code == "invalid_parameter"
    assert (await client.get("/api/orders?statuses=OPEN")).code == "invalid_parameter"


@pytest.mark.parametrize("limit", [1, 2, 5, 6])
async def test_filtered_pages_hold_every_order_once(client: Client, limit: int) -> None:
    ids = [await placed(client) for _ in range(9)]
    for order_id in ids[::2]:
        await client.ask("DELETE", f"/api/orders/{order_id}")
    found: list[str] = []
    query, cursor = f"status=CANCELLED&limit={limit}", ""
    while True:
        answer = await client.get(f"/api/orders?{query}{cursor}")
        body = answer.body
        if body["nextCursor"]:
            link = answer.headers["Link"].removeprefix("<").removesuffix('>; rel="next"')
            assert link == f"/api/orders?{query}&cursor={body['nextCursor']}"
        assert len(body["orders"]) <= limit
        found += [order["orderId"] for order in body["orders"]]
        if body["nextCursor"] is None:
            break
        cursor = f"&cursor={body['nextCursor']}"
    assert found == ids[::2][::-1]


async def test_a_list_may_be_of_a_time(client: Client) -> None:
    ids = [await placed(client) for _ in range(2)]
    ago, soon = ((datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds") for hours in (-1, 1))
    assert await listed(client, f"from={ago}&to={soon}".replace("+", "%2B")) == ids[::-1]
    assert await listed(client, f"from={soon}") == []
    assert await listed(client, f"to={ago}") == []
    assert await listed(client, f"to={ago}&cursor={ids[1]}") == []
    assert await listed(client, f"to={soon}&cursor={ids[1]}".replace("+", "%2B")) == ids[:1]
    assert (await client.get("/api/orders?from=yesterday")).code == "invalid_parameter"


async def test_lists_of_times_that_meet_hold_every_order_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def named_late(partition: int) -> str:
        time.sleep(0.005)  # as behind the others of a batch
        return new_order_id(partition)

    monkeypatch.setattr(placing, "new_order_id", named_late)
    ids = [await placed(client) for _ in range(3)]
    for order_id in ids:
        ms = int(order_id[:8] + order_id[9:13], 16)
        meeting = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert await listed(client, f"from={meeting}") + await listed(client, f"to={meeting}") == ids[::-1]


async def test_events_come_along_when_asked_for(client: Client, log: Stage) -> None:
    order_id = await placed(client)
    await log.moves(order_id, routing_started())
    (order,) = (await client.get("/api/orders?expand=events,route")).body["orders"]
    assert [event["type"] for event in order["events"]] == ["OrderRequested", "RoutingStarted"]
    for query in ("expand=events", "expand=route&expand=events"):
        alone = (await client.get(f"/api/orders/{order_id}?{query}")).body
        assert alone["events"] == order["events"]
    assert (await client.get("/api/orders?expand=everything")).code == "invalid_parameter"


async def test_events_that_come_along_are_those_of_the_order_as_it_is_told() -> None:
    class Busy(Stage):
        """Something happens to each order after it was read and before its events are."""

        async def history(self, order_id: str) -> list[Entry]:
            held = await self.find(order_id)
            assert held
            await self.moves(order_id, routing_started(held.order.version))
            return await super().history(order_id)

    async with gateway(log=Busy(PARTITIONS)) as client:
        order_id = await placed(client)
        for told in (
            (await client.get("/api/orders?expand=events")).body["orders"][0],
            (await client.get(f"/api/orders/{order_id}?expand=events")).body,
        ):
            assert told["version"] == told["events"][-1]["version"]
            assert told["status"] == told["events"][-1]["status"]


async def test_an_order_that_has_not_changed_is_not_sent_again(client: Client, log: Stage) -> None:
    made = await client.post()
    path = made.headers["Location"]
    first = await client.get(path)
    assert first.headers["ETag"] == made.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"
    again = await client.get(path, If_None_Match=first.headers["ETag"])
    assert (again.status, again.body, again.headers["ETag"]) == (304, None, first.headers["ETag"])
    for known in (f'"x", W/{first.headers["ETag"]}', "*"):
        assert (await client.get(path, If_None_Match=known)).status == 304
    await log.moves(made.body["orderId"], routing_started())
    assert (await client.get(path, If_None_Match=first.headers["ETag"])).status == 200


async def test_a_cancel_may_be_of_the_version_that_was_seen_only(client: Client, log: Stage) -> None:
    made = await client.post()
    path = made.headers["Location"]
    await log.moves(made.body["orderId"], routing_started())
    refused = await client.ask("DELETE", path, If_Match=made.headers["ETag"])
    assert (refused.status, refused.code) == (412, "precondition_failed")
    assert (refused.body["currentStatus"], refused.body["currentVersion"]) == ("ROUTING", 2)
    seen = (await client.get(path)).headers["ETag"]
    assert (await client.ask("DELETE", path, If_Match=f'"other", {seen}')).body["status"] == "CANCELLED"
    assert (await client.ask("DELETE", path, If_Match="*")).status == 200


class Racing(Stage):
    """Every order goes on a step right before it is cancelled."""

    async def commit(self, step: Step) -> Outcome:
        if step.events[-1].type == OrderCancelled.__name__:
            held = await self.find(step.order_id)
            assert held
            body = routing_started() if held.order.version == 1 else route_selected()
            await super().commit(then(held, body)[0])
        return await super().commit(step)


async def test_a_cancel_of_one_version_does_not_cancel_the_next() -> None:
    async with gateway(log=Racing(PARTITIONS)) as client:
        made = await client.post()
        path = made.headers["Location"]
        refused = await client.ask("DELETE", path, If_Match=made.headers["ETag"])
        assert (refused.status, refused.code, refused.body["currentVersion"]) == (412, "precondition_failed", 2)
        assert (await client.get(path)).body["status"] == "ROUTING"


async def test_many_are_cancelled_at_once_each_with_its_own_outcome(client: Client, log: Stage) -> None:
    first, late, foreign = await placed(client), await placed(client), await placed(client.other("bob"))
    await log.moves(late, routing_started(), route_selected(), tx_submitted())
    body = {"orderIds": [first, late, foreign, first]}
    answer = await client.post(body, "/api/orders/cancel")
    assert (answer.status, answer.body["cancelled"]) == (207, 1)
    told = [(r["orderId"], r["status"], r.get("problem", {}).get("code")) for r in answer.body["results"]]
    assert told == [
        (first, 200, None),
        (late, 409, "order_not_cancellable"),
        (foreign, 404, "order_not_found"),
    ]
    assert answer.body["results"][1]["problem"]["currentStatus"] == "SUBMITTED"
    again = await client.post({"orderIds": [first]}, "/api/orders/cancel")
    assert (again.status, again.body["cancelled"]) == (200, 1)


async def test_an_id_that_is_none_does_not_hide_what_became_of_the_others(client: Client, log: Stage) -> None:
    first = await placed(client)
    answer = await client.post(b'{"orderIds":["%s","\\ud800"]}' % first.encode(), "/api/orders/cancel")
    assert (answer.status, answer.body["cancelled"]) == (207, 1)
    assert [result["status"] for result in answer.body["results"]] == [200, 404]


@pytest.mark.parametrize("ids", [None, [], "x", [1], ["x"] * 101], ids=["none", "no", "text", "number", "many"])
async def test_a_cancel_of_nothing_is_told_what_is_wrong(client: Client, ids: object) -> None:
    answer = await client.post({} if ids is None else {"orderIds": ids}, "/api/orders/cancel")
    assert answer.code == "invalid_body"
    assert answer.body["errors"][0]["pointer"] == "#/orderIds"


async def test_an_order_is_found_by_the_clients_own_id_at_once(client: Client) -> None:
    order_id = await placed(client, clientOrderId="mine-1")
    found = await client.get("/api/orders/by-client-id/mine-1")
    assert (found.body["orderId"], found.body["clientOrderId"]) == (order_id, "mine-1")
    assert (await client.get("/api/orders/by-client-id/mine-2")).code == "order_not_found"
    assert (await client.other("bob").get("/api/orders/by-client-id/mine-1")).code == "order_not_found"


@pytest.mark.parametrize("text", ["%00", "mine%00", "%F0%9F%98%80", "x" * 300])
async def test_what_no_order_could_be_called_is_not_looked_for(log: Stage, database_url: str, text: str) -> None:
    async with open_store(database_url) as store, gateway(log=log, store=store) as client:
        assert (await client.get(f"/api/orders/by-client-id/{text}")).code == "order_not_found"


async def test_the_clients_own_id_makes_one_order(client: Client) -> None:
    first = await client.post({**ORDER, "clientOrderId": "mine"})
    again = await client.post({**ORDER, "clientOrderId": "mine"})
    assert (again.status, again.body["orderId"]) == (202, first.body["orderId"])
    assert again.headers["Idempotent-Replayed"] == "true"
    other = await client.post({**ORDER, "amount": 11, "clientOrderId": "mine"})
    assert other.code == "idempotency_key_reused"
    assert other.body["existingOrderId"] == first.body["orderId"]
    both = await client.post({**ORDER, "clientOrderId": "mine"}, Idempotency_Key="mine")
    assert both.body["orderId"] == first.body["orderId"]
    differ = await client.post({**ORDER, "clientOrderId": "mine"}, Idempotency_Key="other")
    assert differ.body["errors"][0]["code"] == "differs_from_idempotency_key"


async def test_tokens_are_listed_for_everybody(client: Client) -> None:
    answer = await client.get("/api/tokens", Authorization="")
    assert answer.status == 200
    sol = next(token for token in answer.body["tokens"] if token["symbol"] == "SOL")
    assert sol == {"symbol": "SOL", "mint": "So11111111111111111111111111111111111111112", "decimals": 9}
    by_mint = await client.post({**ORDER, "tokenIn": sol["mint"]})
    assert by_mint.body["tokenIn"] == "SOL"


async def test_pages_of_other_origins_may_read_only_when_allowed(log: Stage) -> None:
    async with gateway(log=log, cors_origins=frozenset({"https://app.example"})) as client:
        asked = {"Origin": "https://app.example", "Access_Control_Request_Method": "POST", "Authorization": ""}
        before = await client.ask("OPTIONS", "/api/orders", **asked)
        assert before.status == 204
        assert "Idempotency-Key" in before.headers["Access-Control-Allow-Headers"]
        answer = await client.post(Origin="https://app.example")
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        other = await client.post(Origin="https://evil.example")
        assert "Access-Control-Allow-Origin" not in other.headers
        assert (await client.ask("OPTIONS", "/api/orders", **asked | {"Origin": "https://evil.example"})).status == 405
        # A cache must not give a page of another origin what it kept for whoever has none.
        assert (await client.get("/api/tokens")).headers["Vary"] == answer.headers["Vary"] == "Origin"
