"""When a signature that is not found never landed: not by a node that began later, nor by one that may be on a fork."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from libs.events.log import Snapshot
from libs.events.model import AttemptFailed, Reason, TxConfirmed
from services.executor import history, settling
from services.executor.history import HistoryMissing
from services.executor.rpc import NODE_UNHEALTHY
from tests.builders import NOW
from tests.contract.executor_rig import Rig, intent, running_rig, submitted

SIGNED_AT, LONG_AGO = 900, 10_000


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    async with running_rig(monkeypatch) as running:
        yield running


def long_after(rig: Rig) -> None:
    rig.fake.height += LONG_AGO
    rig.fake.slot += LONG_AGO


async def test_what_landed_before_a_nodes_first_block_is_not_signed_again_but_for_an_operator(rig: Rig) -> None:
    now = await submitted(rig)
    await rig.chain.send(intent(now).transaction)
    long_after(rig)
    rig.fake.first_height, rig.fake.nulls = SIGNED_AT + 200, 1_000_000  # set up from a snapshot since
    with pytest.raises(HistoryMissing, match="its blocks begin at height 1100, and it may have landed from 750 on"):
        await rig.handle(now)

    rig.fake.first_height, rig.fake.nulls = 0, 0  # another node, which has it all
    assert isinstance(await rig.settled(now), TxConfirmed)


@pytest.mark.parametrize(("first_height", "tells"), [(0, True), (SIGNED_AT - 150, True), (LONG_AGO, False)])
async def test_a_node_with_every_block_since_proves_that_it_never_landed(
    rig: Rig, first_height: int, tells: bool
) -> None:
    rig.fake.drop = 1
    now = await submitted(rig)
    rig.fake.drop = 1_000_000
    long_after(rig)
    rig.fake.first_height, rig.fake.tells_first_block = first_height, tells
    event = await rig.settled(now)
    assert isinstance(event, AttemptFailed)
    assert event.reason is Reason.TRANSACTION_EXPIRED


async def test_soon_after_its_time_every_node_remembers_and_is_asked_nothing_more(rig: Rig) -> None:
    rig.fake.drop, rig.fake.on_drop = 1, rig.fake.expire
    rig.fake.first_height = SIGNED_AT + 100
    assert isinstance(await rig.settled(await submitted(rig)), AttemptFailed)
    assert "getFirstAvailableBlock" not in rig.fake.calls


async def test_what_a_fork_may_hide_is_not_signed_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    now = await submitted(rig)
    await rig.chain.send(intent(now).transaction)  # into the last block that takes it
    rig.fake.expire()
    rig.fake.finalized_lag, rig.fake.nulls = 32, 1_000_000  # who is asked is on a fork without that block
    monkeypatch.setattr(settling, "SETTLE_SECONDS_MAX", 0.3)
    assert await rig.handle(now) == []

    rig.fake.nulls = 0
    assert isinstance(await rig.settled(now), TxConfirmed)


async def test_what_no_fork_can_take_back_is_proof(rig: Rig) -> None:
    rig.fake.drop, rig.fake.on_drop, rig.fake.finalized_lag = 1, rig.fake.expire, 32
    now = await submitted(rig)
    rig.fake.height += 32
    rig.fake.slot += 32
    assert isinstance(await rig.settled(now), AttemptFailed)


async def test_a_node_that_refuses_to_say_where_its_blocks_begin_disturbs_no_other_call(rig: Rig) -> None:
    rig.fake.refuses = "getFirstAvailableBlock"

    async def heights() -> None:
        for _ in range(10):
            assert await rig.chain.height() == rig.fake.height

    looks = [rig.chain.look_back(f"signature{number}", 0) for number in range(50)]
    found, _ = await asyncio.gather(
        asyncio.gather(*looks, return_exceptions=True), asyncio.gather(*(heights() for _ in range(20)))
    )
    assert {type(one) for one in found} == {HistoryMissing}
    assert all("getFirstAvailableBlock" in str(one) for one in found), "it is told what was refused"


@pytest.mark.parametrize("refused", ["getFirstAvailableBlock", "getBlock", "getSignatureStatuses"])
async def test_what_no_call_of_the_node_can_decide_is_for_an_operator_and_ends_by_another_node(
    rig: Rig, refused: str
) -> None:
    now = await submitted(rig)
    rig.fake.drop = 1_000_000
    long_after(rig)
    rig.fake.refuses, rig.fake.first_height = refused, 1
    with pytest.raises(HistoryMissing, match=f"{refused}.*not available from this node"):
        await rig.handle(now)
    rig.fake.refuses = ""
    assert isinstance(await rig.settled(now), AttemptFailed)


@pytest.mark.parametrize("code", [NODE_UNHEALTHY, -32603, -32004, -32014, -32019, 429, -32429])
async def test_a_node_that_is_in_other_trouble_is_waited_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    now = await submitted(rig)
    rig.fake.drop = 1_000_000
    long_after(rig)
    rig.fake.refuses, rig.fake.refuses_with = "getFirstAvailableBlock", code
    monkeypatch.setattr(history, "SLOWLY_AFTER_S", 0)
    monkeypatch.setattr(history, "SLOWLY_EVERY_S", 0)
    monkeypatch.setattr(settling, "SETTLE_SECONDS_MAX", 0.3)
    assert await rig.handle(now) == []


@pytest.mark.parametrize("pattern", ["first", "second", "turns"])
async def test_behind_a_balancer_one_nodes_history_proves_nothing_of_what_another_shows(rig: Rig, pattern: str) -> None:
    """Of a node that takes no lists: the one has it all, the other began since, and each call meets one of them."""
    now = await submitted(rig)
    await rig.chain.send(intent(now).transaction)
    long_after(rig)
    rig.fake.calls_per_request_max, rig.fake.too_many = 1, lambda: web.Response(status=413)
    began_since = rig.fake.first_height = SIGNED_AT + 200
    calls = 0

    def meets_the_one_that_has_it_all(method: str) -> bool:
        nonlocal calls
        if method in {"getSignatureStatuses", "getFirstAvailableBlock"}:
            calls += 1
        return {"first": calls % 2 == 1, "second": calls % 2 == 0, "turns": calls % 4 < 2}[pattern]

    answer = rig.fake._call

    def balanced(call: dict[str, Any]) -> dict[str, Any]:
        has_all = meets_the_one_that_has_it_all(call["method"])
        rig.fake.first_height, rig.fake.nulls = (0, 0) if has_all else (began_since, 1_000_000)
        return answer(call)

    rig.fake._call = balanced  # type: ignore[method-assign]  # each call is another node
    for _ in range(20):
        try:
            look = await rig.chain.look_back(intent(now).signature, SIGNED_AT - 150)
        except HistoryMissing:
            continue
        assert look.status, "it has landed"


async def test_what_landed_long_ago_costs_one_look(rig: Rig) -> None:
    """After hours without an executor it is so of hundreds of orders, and those of today wait behind their looks."""
    now = await submitted(rig)
    await rig.chain.send(intent(now).transaction)
    long_after(rig)
    rig.fake.calls.clear()
    assert (await rig.chain.look_back(intent(now).signature, SIGNED_AT - 150)).status
    assert rig.fake.calls == ["getSignatureStatuses"]


async def test_a_node_that_takes_few_calls_at_once_decides_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SLOWLY_AFTER_S", 0)
    monkeypatch.setattr(history, "SLOWLY_EVERY_S", 0)
    now = await submitted(rig)
    long_after(rig)
    answer, taken = rig.fake._call, Counter[int]()

    def limited(call: dict[str, Any]) -> dict[str, Any]:
        taken[rig.fake.requests] += 1
        if taken[rig.fake.requests] > 2:
            return {"error": {"code": -32429, "message": "rate limited"}}
        return answer(call)

    rig.fake._call = limited  # type: ignore[method-assign]  # so many calls in a second
    assert (await rig.chain.look_back(intent(now).signature, SIGNED_AT - 150)).status is None


async def test_what_one_node_found_counts_though_another_behind_the_same_balancer_keeps_no_history(rig: Rig) -> None:
    now = await submitted(rig)
    await rig.chain.send(intent(now).transaction)
    long_after(rig)
    rig.fake.calls_per_request_max, rig.fake.too_many = 1, lambda: web.Response(status=413)
    answer, turns = rig.fake._call, itertools.cycle(["getSignatureStatuses", ""])

    def balanced(call: dict[str, Any]) -> dict[str, Any]:
        rig.fake.refuses = next(turns)
        return answer(call)

    rig.fake._call = balanced  # type: ignore[method-assign]  # each call is another node
    look = await rig.chain.look_back(intent(now).signature, SIGNED_AT - 150)
    assert look.status, "it has landed"


@pytest.mark.parametrize("odd", ["standing still", "unreadable", "in no block that is kept"])
async def test_a_node_that_decides_nothing_long_after_a_chain_should_have_is_said_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    monkeypatch.setattr(settling, "SETTLE_SECONDS_MAX", 0.2)
    now = await submitted(rig)
    rig.fake.drop = 1_000_000
    if odd != "standing still":
        rig.fake.expire()
        status = {"slot": 7, "confirmationStatus": "processed", "err": None}
        rig.fake.landed[intent(now).signature] = status if odd.startswith("in no") else {"slot": "?"}
    long_ago = now.order.model_copy(update={"updated_at": NOW - timedelta(minutes=4)})
    with capture_logs() as said:
        assert await rig.handle(now) == []
        assert [line for line in said if line["event"] == "transaction_look_trouble"] == []
        assert await rig.handle(Snapshot(long_ago, now.event)) == []
    first, *others = [line for line in said if line["event"] == "transaction_look_trouble"]
    assert first["why"] == f"not decided at height {rig.fake.height}, long after it was sent"
    assert (first["log_level"], {line["log_level"] for line in others} - {"debug"}) == ("warning", set())


async def test_that_one_order_is_not_decided_is_said_once_and_is_not_over_when_another_is(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "SETTLE_SECONDS_MAX", 0.2)
    rig.fake.drop = 1_000_000
    stuck, other = await submitted(rig), await submitted(rig)
    stuck = Snapshot(stuck.order.model_copy(update={"updated_at": NOW - timedelta(minutes=4)}), stuck.event)
    with capture_logs() as said:
        assert await rig.handle(stuck) == []
        rig.fake.drop = 0
        assert isinstance(await rig.settled(other), TxConfirmed)
        rig.fake.drop = 1_000_000
        assert await rig.handle(stuck) == []
    told = [line["log_level"] for line in said if line["event"] == "transaction_look_trouble"]
    assert (told[0], set(told[1:])) == ("warning", {"debug"})
    assert [line for line in said if line["event"] == "transaction_trouble_over"] == []


@pytest.mark.parametrize(("signed_for", "looked_at"), [("one", "another"), ("one", "one"), ("", "one"), ("one", "")])
async def test_what_is_not_on_another_chain_may_be_on_its_own(rig: Rig, signed_for: str, looked_at: str) -> None:
    rig.fake.genesis, rig.fake.drop = signed_for, 1_000_000
    now = await submitted(rig)
    assert intent(now).genesis == (signed_for or None)
    rig.fake.genesis = looked_at
    rig.fake.expire()
    if (signed_for, looked_at) == ("one", "another"):
        with pytest.raises(
            HistoryMissing, match="signed for the chain of genesis one, and the node is of that of anot"
        ):
            await rig.handle(now)
    else:
        assert isinstance(await rig.settled(now), AttemptFailed)


async def test_a_node_in_trouble_that_does_not_say_which_chain_it_is_proves_nothing_and_is_asked_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "SETTLE_SECONDS_MAX", 0.2)
    rig.fake.genesis, rig.fake.genesis_trouble, rig.fake.drop = "one", NODE_UNHEALTHY, 1_000_000
    assert intent(await submitted(rig)).genesis is None
    rig.fake.genesis_trouble = 0
    now = await submitted(rig)
    assert intent(now).genesis == "one"
    rig.fake.genesis, rig.fake.genesis_trouble = "another", NODE_UNHEALTHY
    rig.fake.expire()
    assert await rig.handle(now) == []
    rig.fake.genesis_trouble = 0
    with pytest.raises(HistoryMissing, match="the node is of that of another"):
        await rig.handle(now)
