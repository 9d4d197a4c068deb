"""Orders over HTTP: placed once, seen at once, by their owner only."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from libs.events.errors import LogMismatch, LogUnavailable, OutcomeUnknown
from libs.events.ids import new_order_id, partition_of_user
from libs.events.log import Outcome, Step
from libs.events.memory_log import MemoryLog
from libs.events.model import OrderRequested
from libs.orders.store import StoreUnavailable
from services.gateway import commands, limits
from tests.builders import route_selected, routing_started, then, tx_submitted
from tests.contract.http_gateway import PARTITIONS, Client, NothingProjected, gateway

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class TroubledLog(MemoryLog):
    """Goes wrong as told: each trouble meets one commit, "lost" ones after the write happened."""

    def __init__(self) -> None:
        super().__init__(PARTITIONS)
        self.troubles: list[str] = []
        self.away: LogUnavailable | None = None
        self.commits = 0

    async def commit(self, step: Step) -> Outcome:
        self.commits += 1
        trouble = self.troubles.pop(0) if self.troubles else ""
        match trouble:
            case "away":
                raise LogUnavailable("redis://:secret@host is away")
            case "another":
                raise LogMismatch("another epoch")
            case "never arrived":
                raise OutcomeUnknown("reset")
            case "reply lost":
                await super().commit(step)
                raise OutcomeUnknown("reset")
            case "broken":
                raise ZeroDivisionError("secret internals")
        return await super().commit(step)

    async def find_many(self, order_ids):  # type: ignore[no-untyped-def]
        if self.away:
            raise self.away
        return await super().find_many(order_ids)


@pytest.fixture
def log() -> TroubledLog:
    return TroubledLog()


@pytest.fixture
async def client(log: TroubledLog) -> AsyncIterator[Client]:
    async with gateway(log=log) as client:
        yield client


async def _entries(log: MemoryLog, user: str = "user-1") -> int:
    return (await log.tip(partition_of_user(user, PARTITIONS))).position


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
    assert await _entries(log) == 1


# Trouble with the log


@pytest.mark.parametrize("key", ["", "k1"])
@pytest.mark.parametrize(
    "troubles", [["reply lost"], ["never arrived"], ["never arrived", "reply lost"], ["reply lost", "away", "away"]]
)
async def test_a_lost_reply_is_asked_after_until_it_is_known(
    client: Client, log: TroubledLog, troubles: list[str], key: str
) -> None:
    log.troubles = troubles
    answer = await client.post(Idempotency_Key=key)
    assert answer.status == 202
    assert answer.body["status"] == "PENDING"
    assert "Idempotent-Replayed" not in answer.headers
    assert await log.find(answer.body["orderId"])
    assert await _entries(log) == 1


@pytest.mark.parametrize("key", ["", "a/key of mine"])
@pytest.mark.parametrize(("trouble", "found"), [("never arrived", 404), ("reply lost", 200)])
async def test_an_outcome_that_stays_unknown_is_said_to_be_and_where_to_look(
    client: Client, log: TroubledLog, monkeypatch: pytest.MonkeyPatch, trouble: str, found: int, key: str
) -> None:
    monkeypatch.setattr(limits, "OUTCOME_DEADLINE_S", 0.05)
    log.troubles = [trouble, *["away"] * 100]
    answer = await client.post(Idempotency_Key=key)
    assert (answer.status, answer.code) == (503, "outcome_unknown")
    assert answer.headers["Retry-After"]
    assert (await client.get(answer.body["lookUp"])).status == found
    assert ("another order" in answer.body["detail"]) == (not key), "without a key it must not be sent again unseen"


@pytest.mark.parametrize("trouble", ["away", "another"])
async def test_a_log_that_is_away_is_said_to_be_and_nothing_else_is_told(
    client: Client, log: TroubledLog, trouble: str
) -> None:
    log.troubles = [trouble]
    answer = await client.post()
    assert (answer.status, answer.code) == (503, "log_unavailable")
    assert "redis" not in str(answer.body)
    assert "secret" not in str(answer.body)
    assert await _entries(log) == 0


async def test_a_log_not_opened_yet_is_away(log: TroubledLog) -> None:
    async with gateway(log=log, log_open=False) as client:
        assert (await client.post()).code == "log_unavailable"


async def test_orders_that_cannot_be_read_are_said_to_be(client: Client, log: TroubledLog) -> None:
    made = (await client.post()).body["orderId"]
    log.away = OutcomeUnknown("reset")
    log.find = _away  # type: ignore[method-assign]
    assert (await client.get(f"/api/orders/{made}")).code == "log_unavailable"
    assert (await client.get("/api/orders")).code == "log_unavailable"


async def _away(order_id: str) -> None:
    raise OutcomeUnknown("reset")


async def test_a_database_that_is_away_stops_only_what_needs_it(log: TroubledLog) -> None:
    class Away(NothingProjected):
        async def get(self, order_id: str) -> None:
            raise StoreUnavailable("postgresql://:secret@host")

        async def newest(self, user: str, before: str | None, limit: int):  # type: ignore[no-untyped-def]
            raise StoreUnavailable("postgresql://:secret@host")

    async with gateway(log=log, store=Away()) as client:
        made = await client.post()
        assert made.status == 202
        assert (await client.get(f"/api/orders/{made.body['orderId']}")).status == 200
        answer = await client.get("/api/orders")
        assert (answer.status, answer.code) == (503, "database_unavailable")
        assert "secret" not in str(answer.body)


async def test_a_silent_database_keeps_no_write_waiting(log: TroubledLog, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(NothingProjected):
        async def get(self, order_id: str) -> None:
            await asyncio.sleep(30)

    monkeypatch.setattr(limits, "READ_DEADLINE_S", 0.05)
    async with gateway(log=log, store=Silent()) as client, asyncio.timeout(5):
        made = (await client.post(Idempotency_Key="k1")).body["orderId"]
        await client.ask("DELETE", f"/api/orders/{made}")
        await log.retire([made])  # as the log does a minute after the end
        again, cancel = await client.post(Idempotency_Key="k1"), await client.ask("DELETE", f"/api/orders/{made}")
        assert [answer.code for answer in (again, cancel)] == ["database_unavailable"] * 2
        many = await client.post({"orderIds": [made]}, "/api/orders/cancel")
        assert [result["problem"]["code"] for result in many.body["results"]] == ["database_unavailable"]


async def test_the_unexpected_is_a_500_that_tells_nothing(
    client: Client, log: TroubledLog, capsys: pytest.CaptureFixture[str]
) -> None:
    log.troubles = ["broken"]
    answer = await client.post(X_Request_Id="find-me")
    assert (answer.status, answer.code) == (500, "internal_error")
    assert "internals" not in str(answer.body)
    logged = "".join(capsys.readouterr())
    assert "find-me" in logged
    assert "ZeroDivisionError" in logged
    assert (await client.post()).status == 202


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
    assert await _entries(log) == 2


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


@pytest.mark.parametrize("trouble", ["reply lost", "never arrived"])
async def test_a_cancel_whose_reply_is_lost_is_asked_after(client: Client, log: TroubledLog, trouble: str) -> None:
    made = (await client.post()).body["orderId"]
    log.troubles = [trouble]
    answer = await client.ask("DELETE", f"/api/orders/{made}")
    assert (answer.status, answer.body["status"]) == (200, "CANCELLED")
    assert await _entries(log) == 2


async def test_a_cancel_of_which_nothing_is_known_may_be_asked_again(
    client: Client, log: TroubledLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OUTCOME_DEADLINE_S", 0.05)
    made = (await client.post(Idempotency_Key="k1")).body["orderId"]
    log.troubles = ["reply lost", *["away"] * 100]
    answer = await client.ask("DELETE", f"/api/orders/{made}")
    assert (answer.code, answer.body["lookUp"]) == ("outcome_unknown", f"/api/orders/{made}")
    assert answer.body["detail"] == "Ask again, or look it up."
