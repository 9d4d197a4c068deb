"""Transactions of many orders sent and looked at in one go: what is not decided by then goes the long way."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from libs.events.log import Snapshot
from libs.events.model import AttemptFailed, Event, Reason, TxConfirmed
from services.executor import settling
from services.executor.settling import AmountUnknown
from tests.builders import NOW
from tests.contract.executor_rig import Rig, intent, running_rig, selected, submitted
from tests.contract.fake_chain import BLOCKHASH_LIFE


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    async with running_rig(monkeypatch) as rig:
        yield rig


async def at_once(rig: Rig, *orders: Snapshot) -> list[Event | None]:
    outcomes = await rig.executor.handle_many([(now.order, now.event) for now in orders])
    return [events[0] if events else None for events in outcomes]


async def test_a_chain_known_to_be_quick_settles_many_with_one_request(rig: Rig) -> None:
    for requests in (2, 1):
        orders = [await submitted(rig) for _ in range(20)]
        before = rig.fake.requests
        events = await at_once(rig, *orders)
        signatures = {event.signature for event in events if isinstance(event, TxConfirmed)}
        assert signatures == {intent(now).signature for now in orders}
        assert rig.fake.requests - before == requests


async def test_what_is_not_decided_is_not_sent_again_at_once(rig: Rig) -> None:
    orders = [await submitted(rig) for _ in range(3)]
    rig.fake.nulls = 3
    assert await at_once(rig, *orders) == [None] * 3
    sent = list(rig.fake.sent)
    assert len(sent) == 3
    assert isinstance(await rig.settled(orders[0]), TxConfirmed)
    assert rig.fake.sent == sent


async def test_what_was_signed_long_ago_and_is_over_is_not_waited_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "RESEND_MS", 20_000)
    now = await submitted(rig)
    rig.fake.drop = 9
    rig.fake.height += BLOCKHASH_LIFE + 1
    old = Snapshot(now.order.model_copy(update={"updated_at": NOW - timedelta(minutes=1)}), now.event)
    async with asyncio.timeout(15):
        event = await rig.settled(old)
    assert isinstance(event, AttemptFailed)
    assert event.reason is Reason.TRANSACTION_EXPIRED


async def test_what_was_not_taken_is_sent_again(rig: Rig) -> None:
    now = await submitted(rig)
    rig.fake.away = 1
    assert await at_once(rig, now) == [None]
    assert rig.fake.sent == []
    assert isinstance(await rig.settled(now), TxConfirmed)


async def test_a_lost_reply_proves_nothing(rig: Rig) -> None:
    now = await submitted(rig)
    rig.fake.lose_replies = 2  # a request whose kept connection broke is repeated once
    await at_once(rig, now)
    assert isinstance(await rig.settled(now), TxConfirmed)
    assert list(rig.fake.landed) == [intent(now).signature]


async def test_an_error_of_the_chain_is_the_failure_of_its_attempt(rig: Rig) -> None:
    now = await submitted(rig)
    rig.fake.error = {"InstructionError": [0, {"Custom": 6001}]}
    (event,) = await at_once(rig, now)
    assert isinstance(event, AttemptFailed)
    assert event.reason is Reason.SLIPPAGE_EXCEEDED


async def test_a_transaction_not_shown_yet_is_looked_at_again(rig: Rig) -> None:
    now = await submitted(rig)
    rig.fake.hidden_transactions = 1
    assert await at_once(rig, now) == [None]
    assert isinstance(await rig.settled(now), TxConfirmed)


@pytest.mark.parametrize("owner", ["somebody else", None])
async def test_one_whose_amount_does_not_show_does_not_keep_back_the_others(rig: Rig, owner: str | None) -> None:
    orders = [await submitted(rig) for _ in range(3)]
    await at_once(rig, *orders)
    if owner:
        rig.fake.owners[intent(orders[1]).signature] = owner
    else:
        rig.fake.amounts_odd.add(intent(orders[1]).signature)
    first, odd, last = await at_once(rig, *orders)
    assert isinstance(first, TxConfirmed)
    assert odd is None
    assert isinstance(last, TxConfirmed)
    with pytest.raises(AmountUnknown):
        await rig.settled(orders[1])


async def test_orders_at_different_steps_are_handled_in_one_call(rig: Rig) -> None:
    later, sooner = await submitted(rig), selected()
    confirmed, signed = await at_once(rig, later, sooner)
    assert isinstance(confirmed, TxConfirmed)
    assert signed
    assert type(signed).__name__ == "TxSubmitted"
