"""Orders over HTTP: placed once, seen at once, by their owner only, and cancelled while they can be."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from libs.events.ids import new_order_id, partition_of_user
from libs.events.log import Outcome, Step
from libs.events.memory_log import MemoryLog
from libs.events.model import OrderRequested
from services.gateway import commands
from tests.builders import route_selected, routing_started, then, tx_submitted
from tests.contract.http_gateway import ORDER, PARTITIONS, Client, gateway
from tests.contract.troubled_log import TroubledLog, entries_of

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def log() -> TroubledLog:
    return TroubledLog()


@pytest.fixture
async def client(log: TroubledLog) -> AsyncIterator[Client]:
    async with gateway(log=log) as client:
        yield client


async def test_an_order_is_in_the_log_when_its_202_arrives(client: Client, log: TroubledLog) -> None:
    before = datetime.now(UTC)
    answer = await client.post(X_Request_Id="my-request", traceparent=TRACE)
    assert answer.status == 202
    order_id = answer.body["orderId"]
    assert answer.headers["Location"] == f"/api/orders/{order_id}"
    assert answer.headers["X-Request-Id"] == "my-request"
    wanted = {
        "status": "PENDING",
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amount": "10",
        "slippageBps": 50,
        "version": 1,
    }
    assert wanted.items() <= answer.body.items()
    held = await log.find(order_id)
    assert held
    assert isinstance(held.event.data, OrderRequested)
    assert held.event.data.amount_in == 10 * 10**9
    assert held.event.data.request_id == "my-request"
    assert held.event.traceparent.split("-")[1] == TRACE.split("-")[1]
    assert held.event.traceparent != TRACE
    assert timedelta(minutes=9) < held.order.expires_at - before < timedelta(minutes=11)
    assert log.commits == 1


async def test_it_can_be_read_at_once_whatever_the_projection_holds(client: Client) -> None:
    made = (await client.post()).body
    assert (await client.get(f"/api/orders/{made['orderId']}")).body == made
    assert (await client.get("/api/orders")).body == {"orders": [made], "nextCursor": None}
    events = (await client.get(f"/api/orders/{made['orderId']}/events")).body["events"]
    assert [(event["type"], event["status"], event["version"]) for event in events] == [
        ("OrderRequested", "PENDING", 1)
    ]
    partition = partition_of_user("user-1", PARTITIONS)
    assert re.fullmatch(rf"memory:{partition}:\d+-1", events[0]["cursor"])


async def test_the_list_is_newest_first_and_pages_without_gap_or_repetition(client: Client) -> None:
    made = [(await client.post()).body["orderId"] for _ in range(7)]
    seen: list[str] = []
    path = "/api/orders?limit=3"
    sizes = []
    while path:
        page = (await client.get(path)).body
        seen += [order["orderId"] for order in page["orders"]]
        sizes.append(len(page["orders"]))
        path = f"/api/orders?limit=3&cursor={page['nextCursor']}" if page["nextCursor"] else ""
    assert seen == sorted(made, reverse=True)
    assert sizes == [3, 3, 1]


@pytest.mark.parametrize(
    ("amount", "units"),
    [
        (b"10", 10_000_000_000),
        (b'"0.1"', 100_000_000),
        (b"0.123456789", 123_456_789),
        (b"1e-9", 1),
        (b"1.10", 1_100_000_000),
        (b"18446744073.709551615", 2**64 - 1),
        (b'"12345678.123456789"', 12_345_678_123_456_789),
    ],
)
async def test_amounts_are_exact(client: Client, log: TroubledLog, amount: bytes, units: int) -> None:
    answer = await client.post(b'{"tokenIn":"SOL","tokenOut":"USDC","amount":%s}' % amount)
    assert answer.status == 202, answer.body
    held = await log.find(answer.body["orderId"])
    assert held
    assert held.order.amount_in == units


async def test_mints_options_and_any_case_of_symbols_are_understood(client: Client) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    answer = await client.post(
        {
            "tokenIn": "So11111111111111111111111111111111111111112",
            "tokenOut": "bonk",
            "amount": "1",
            "slippageBps": 0,
            "expiresAt": soon,
        }
    )
    assert answer.status == 202
    wanted = {"tokenIn": "SOL", "tokenOut": "BONK", "slippageBps": 0, "expiresAt": soon}
    assert wanted.items() <= answer.body.items()


@pytest.mark.parametrize(
    ("terms", "lives"),
    [
        ({}, timedelta(minutes=10)),
        ({"limitPrice": "1000"}, timedelta(days=90)),
        ({"limitPrice": "1000", "timeInForce": "GTC"}, timedelta(days=90)),
        ({"limitPrice": "1", "timeInForce": "IOC"}, timedelta(minutes=10)),
        ({"minAmountOut": "1"}, timedelta(minutes=10)),
    ],
)
async def test_an_order_that_names_no_end_has_that_of_its_kind(
    client: Client, terms: dict[str, str], lives: timedelta
) -> None:
    before = datetime.now(UTC)
    answer = await client.post({**ORDER, **terms})
    late = datetime.fromisoformat(answer.body["expiresAt"]) - before - lives
    assert timedelta(seconds=-1) < late < timedelta(minutes=5)


async def test_somebody_elses_order_is_like_one_that_does_not_exist(client: Client, log: TroubledLog) -> None:
    theirs = (await client.post()).body["orderId"]
    same_partition = next(
        name
        for n in range(100)
        if (name := f"u{n}") and partition_of_user(name, PARTITIONS) == partition_of_user("user-1", PARTITIONS)
    )
    for user in ("somebody", same_partition):
        stranger = client.other(user)
        unknown = new_order_id(partition_of_user(user, PARTITIONS))
        wrong = (theirs, unknown, "1", "x" * 400, theirs.upper(), theirs[:-3] + "fff", "%00", "%ff", "..%2f..")
        for method, tail in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
            documents = []
            for order_id in wrong:
                answer = await stranger.ask(method, f"/api/orders/{order_id}{tail}")
                assert (answer.status, answer.code) == (404, "order_not_found"), (method, order_id, answer)
                documents.append({k: v for k, v in answer.body.items() if k not in ("instance", "requestId")})
            assert all(document == documents[0] for document in documents)
        assert (await stranger.get("/api/orders")).body["orders"] == []
    assert await entries_of(log) == 1


# Cancelling


async def test_a_pending_order_can_be_cancelled_and_stays_cancelled(client: Client, log: TroubledLog) -> None:
    made = (await client.post()).body["orderId"]
    first = await client.ask("DELETE", f"/api/orders/{made}")
    assert (first.status, first.body["status"], first.body["version"]) == (200, "CANCELLED", 2)
    held = await log.find(made)
    assert held
    assert (held.event.type, held.event.source, held.event.cause) == ("OrderCancelled", "gateway", f"{made}/1")
    again = await client.ask("DELETE", f"/api/orders/{made}")
    assert (again.status, again.body) == (200, first.body)
    assert await entries_of(log) == 2


async def test_a_submitted_order_cannot_be_cancelled(client: Client, log: TroubledLog) -> None:
    made = (await client.post()).body["orderId"]
    held = await log.find(made)
    assert held
    step, _ = then(held, routing_started(), route_selected(), tx_submitted())
    await log.commit(step)
    answer = await client.ask("DELETE", f"/api/orders/{made}")
    assert (answer.status, answer.code) == (409, "order_not_cancellable")
    assert answer.body["currentStatus"] == "SUBMITTED"


async def test_a_cancel_that_meets_another_event_tries_again(
    client: Client, log: TroubledLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (await client.post()).body["orderId"]
    real = commands.commit
    raced = False

    async def commit(to: MemoryLog, step: Step) -> Outcome:
        nonlocal raced
        if not raced:
            raced = True
            held = await log.find(made)
            assert held
            await log.commit(then(held, routing_started())[0])
        return await real(to, step)

    monkeypatch.setattr(commands, "commit", commit)
    answer = await client.ask("DELETE", f"/api/orders/{made}")
    assert (answer.status, answer.body["status"], answer.body["version"]) == (200, "CANCELLED", 3)
