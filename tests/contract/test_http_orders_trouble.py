"""Orders over HTTP while something is away or answers are lost: said to be, asked after, nothing done twice."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.events.errors import OutcomeUnknown
from libs.orders.listed import Listed
from libs.orders.store import StoreUnavailable
from services.gateway import limits
from tests.contract.http_gateway import Client, NothingProjected, gateway
from tests.contract.troubled_log import TroubledLog, entries_of


@pytest.fixture
def log() -> TroubledLog:
    return TroubledLog()


@pytest.fixture
async def client(log: TroubledLog) -> AsyncIterator[Client]:
    async with gateway(log=log) as client:
        yield client


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
    assert await entries_of(log) == 1


@pytest.mark.parametrize("key", ["", "a/key of mine"])
@pytest.mark.parametrize(("trouble", "found"), [("never arrived", 404), ("reply lost", 200)])
async def test_an_outcome_that_stays_unknown_is_said_to_be_and_where_to_look(
    client: Client, log: TroubledLog, monkeypatch: pytest.MonkeyPatch, trouble: str, found: int, key: str
) -> None:
    monkeypatch.setattr(limits, "OUTCOME_DEADLINE_S", 0.05)
    log.troubles = [trouble, *["away"] * 100]
    answer = await client.post(Idempotency_Key=key)
    assert (answer.status, answer.code) == (503, "outcome_unknown")
    assert (await client.get(answer.body["lookUp"])).status == found
    assert ("another order" in answer.body["detail"]) == (not key), "without a key it must not be sent again unseen"
    assert answer.body["retryable"] is ("Retry-After" in answer.headers) is bool(key), "nor by a program"


@pytest.mark.parametrize("trouble", ["away", "another"])
async def test_a_log_that_is_away_is_said_to_be_and_nothing_else_is_told(
    client: Client, log: TroubledLog, trouble: str
) -> None:
    log.troubles = [trouble]
    answer = await client.post()
    assert (answer.status, answer.code) == (503, "log_unavailable")
    assert "redis" not in str(answer.body)
    assert "secret" not in str(answer.body)
    assert await entries_of(log) == 0


async def test_a_log_not_opened_yet_is_away(log: TroubledLog) -> None:
    async with gateway(log=log, log_open=False) as client:
        assert (await client.post()).code == "log_unavailable"


async def test_orders_that_cannot_be_read_are_said_to_be(
    client: Client, log: TroubledLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (await client.post()).body["orderId"]
    log.away = OutcomeUnknown("reset")
    monkeypatch.setattr(log, "find", _away)
    assert (await client.get(f"/api/orders/{made}")).code == "log_unavailable"
    assert (await client.get("/api/orders")).code == "log_unavailable"


async def _away(order_id: str) -> None:
    raise OutcomeUnknown("reset")


async def test_a_database_that_is_away_stops_only_what_needs_it(log: TroubledLog) -> None:
    class Away(NothingProjected):
        async def get(self, order_id: str) -> None:
            raise StoreUnavailable("postgresql://:secret@host")

        async def newest(self, user: str, before: str | None, limit: int) -> list[Listed]:
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


@pytest.mark.parametrize("trouble", ["reply lost", "never arrived"])
async def test_a_cancel_whose_reply_is_lost_is_asked_after(client: Client, log: TroubledLog, trouble: str) -> None:
    made = (await client.post()).body["orderId"]
    log.troubles = [trouble]
    answer = await client.ask("DELETE", f"/api/orders/{made}")
    assert (answer.status, answer.body["status"]) == (200, "CANCELLED")
    assert await entries_of(log) == 2


async def test_a_cancel_of_which_nothing_is_known_may_be_asked_again(
    client: Client, log: TroubledLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OUTCOME_DEADLINE_S", 0.05)
    made = (await client.post(Idempotency_Key="k1")).body["orderId"]
    log.troubles = ["reply lost", *["away"] * 100]
    answer = await client.ask("DELETE", f"/api/orders/{made}")
    assert (answer.code, answer.body["lookUp"]) == ("outcome_unknown", f"/api/orders/{made}")
    assert answer.body["detail"] == "Ask again, or look it up."
