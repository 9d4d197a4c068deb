"""An order is settled at most once, whatever the chain does: over real sockets, with a node on its worst behaviour."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from solders.keypair import Keypair
from structlog.testing import capture_logs

from libs.events.log import Snapshot
from libs.events.model import AttemptFailed, Event, OrderFailed, Reason, TxConfirmed
from services.executor import settling
from services.executor.domain import AHEAD_MAX
from services.executor.handlers import Executor
from services.executor.settling import AmountUnknown
from services.executor.wallet import Wallet
from tests.builders import NOW
from tests.contract.executor_rig import POLICY, WALLET, Rig, intent, running_rig, selected, submitted
from tests.contract.fake_chain import signature_of


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    async with running_rig(monkeypatch) as rig:
        yield rig


async def test_the_intent_is_complete_before_anything_is_sent(rig: Rig) -> None:
    now = selected()
    sent = intent(await submitted(rig, now))
    assert sorted(rig.fake.calls) == ["getBlockHeight", "getGenesisHash"]
    assert signature_of(sent.transaction) == sent.signature
    assert sent.last_valid_block_height == rig.fake.height + 150
    (built,) = rig.fake.built
    assert now.order.route
    minimum = {"otherAmountThreshold": str(now.order.route.min_out), "slippageBps": 50}
    assert built["quoteResponse"] == {"outAmount": "1500000000", **minimum}
    assert (built["userPublicKey"], built["reference"]) == (WALLET.address, now.order.id)


async def test_a_sent_transaction_is_confirmed_with_what_came_out_against_the_quote(rig: Rig) -> None:
    now = await submitted(rig)
    event = await rig.settled(now)
    assert event == TxConfirmed(
        attempt=1,
        signature=intent(now).signature,
        slot=1_001,
        amount_out=1_499_000_000,
        quoted_out=1_500_000_000,
        against_quote_ppm=-667,
    )
    assert rig.fake.sent == [intent(now).transaction]


async def test_a_finalized_signature_is_as_good(rig: Rig) -> None:
    rig.fake.commitment = "finalized"
    assert isinstance(await rig.settled(await submitted(rig)), TxConfirmed)


async def test_another_worker_sends_the_bytes_of_the_log_not_its_own(rig: Rig) -> None:
    first, second = await submitted(rig), await submitted(rig)
    assert intent(first).signature != intent(second).signature
    for _ in range(2):  # a crash after the send, then the same order in other hands
        event = await rig.settled(first)
        assert isinstance(event, TxConfirmed)
        assert event.signature == intent(first).signature
    assert set(rig.fake.sent) == {intent(first).transaction}
    assert len(rig.fake.landed) == 1


async def test_what_another_key_signed_is_settled_with_what_its_owner_got(rig: Rig) -> None:
    first, second = await submitted(rig), await submitted(rig)
    other = Executor(Wallet(str(Keypair())), {}, rig.chain, rig.poller, POLICY, lambda: NOW, lambda: 0.5)
    ((together,),) = await other.handle_many([(first.order, first.event)])
    alone = await replace(rig, executor=other).settled(second)
    assert [type(event) for event in (together, alone)] == [TxConfirmed] * 2


async def test_a_dropped_transaction_is_sent_again_with_the_same_bytes(rig: Rig) -> None:
    rig.fake.drop = 3
    now = await submitted(rig)
    event = await rig.settled(now)
    assert isinstance(event, TxConfirmed)
    assert rig.fake.sent == [intent(now).transaction] * 4


async def test_a_lost_reply_to_the_send_is_no_second_transaction(rig: Rig) -> None:
    rig.fake.lose_replies = 2  # the client repeats a request on a closed connection once
    now = await submitted(rig)
    assert isinstance(await rig.settled(now), TxConfirmed)
    assert set(rig.fake.sent) == {intent(now).transaction}
    assert len(rig.fake.landed) == 1


async def test_a_status_unknown_at_first_is_looked_at_again(rig: Rig) -> None:
    rig.fake.nulls = 5
    assert isinstance(await rig.settled(await submitted(rig)), TxConfirmed)


async def test_an_expired_transaction_is_only_given_up_with_proof(rig: Rig) -> None:
    rig.fake.drop, rig.fake.on_drop = 1, rig.fake.expire
    now = await submitted(rig)
    event = await rig.settled(now)
    assert isinstance(event, AttemptFailed)
    assert (event.stage, event.reason) == ("execution", Reason.TRANSACTION_EXPIRED)
    assert event.detail == f"not on the chain at block height 1051; it was valid until {900 + 150}"
    # The proof: the height was seen first, the signature looked up after it.
    last_height = len(rig.fake.calls) - 1 - rig.fake.calls[::-1].index("getEpochInfo")
    assert "getSignatureStatuses" in rig.fake.calls[last_height:]
    assert not rig.fake.landed


async def test_a_transaction_that_landed_just_before_its_expiry_is_found_not_signed_again(rig: Rig) -> None:
    now = await submitted(rig)
    await rig.chain.send(intent(now).transaction)
    rig.fake.expire()
    rig.fake.nulls, rig.fake.seen_from_height_on = 1_000_000, True

    assert isinstance(await rig.settled(now), TxConfirmed)
    assert "getEpochInfo" in rig.fake.calls


async def handled_for_a_while(rig: Rig, now: Snapshot, monkeypatch: pytest.MonkeyPatch) -> Sequence[Event]:
    monkeypatch.setattr(settling, "SETTLE_SECONDS_MAX", 0.3)
    return await rig.handle(now)


async def test_a_height_below_the_last_valid_proves_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.fake.drop = 1_000_000
    now = await submitted(rig)
    rig.fake.height += 150
    assert await handled_for_a_while(rig, now, monkeypatch) == []


async def test_a_node_that_lags_behind_its_own_height_proves_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.fake.drop, rig.fake.status_slot_lag = 1_000_000, 2
    now = await submitted(rig)
    rig.fake.expire()
    assert await handled_for_a_while(rig, now, monkeypatch) == []


async def test_a_blockhash_still_valid_outlives_the_height_a_venue_told(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.fake.drop = 1_000_000
    now = await submitted(rig)
    wrong = intent(now).model_copy(update={"last_valid_block_height": 1})
    now = Snapshot(now.order, now.event.model_copy(update={"data": wrong}))
    assert await handled_for_a_while(rig, now, monkeypatch) == []
    rig.fake.drop = 0
    assert isinstance(await rig.settled(now), TxConfirmed)


async def test_a_node_that_cannot_judge_blockhashes_is_judged_by_height(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.fake.knows_blockhash_valid = False
    rig.fake.drop, rig.fake.on_drop = 1, rig.fake.expire
    now = await submitted(rig)
    assert await handled_for_a_while(rig, now, monkeypatch) == [], "the venue may have told too low a height"
    rig.fake.height += AHEAD_MAX
    rig.fake.slot += AHEAD_MAX
    event = await rig.settled(now)
    assert isinstance(event, AttemptFailed)
    assert event.reason is Reason.TRANSACTION_EXPIRED


async def test_a_block_only_processed_is_waited_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.fake.commitment = "processed"
    now = await submitted(rig)
    assert await handled_for_a_while(rig, now, monkeypatch) == []
    rig.fake.landed[intent(now).signature]["confirmationStatus"] = "confirmed"
    assert isinstance(await rig.settled(now), TxConfirmed)


async def test_a_chain_away_is_waited_for_and_nothing_is_concluded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    now = await submitted(rig)
    rig.fake.away = 1_000_000
    assert await handled_for_a_while(rig, now, monkeypatch) == []
    assert rig.fake.requests < 100  # it does not spin
    rig.fake.away = 0
    assert isinstance(await rig.settled(now), TxConfirmed)


async def test_a_node_slower_than_the_pause_between_sends_is_waited_for(rig: Rig) -> None:
    now = await submitted(rig)
    rig.fake.slow_s = settling.RESEND_MS / 1000 + 0.05
    async with asyncio.timeout(5):
        assert isinstance(await rig.settled(now), TxConfirmed)


async def test_a_transaction_not_shown_yet_is_asked_for_again(rig: Rig) -> None:
    now = await submitted(rig)
    await rig.chain.send(intent(now).transaction)
    rig.fake.hidden_transactions = 3
    assert isinstance(await rig.settled(now), TxConfirmed)


async def test_what_a_node_will_not_show_is_waited_for_and_said(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "SETTLE_SECONDS_MAX", 0.2)
    monkeypatch.setattr(settling, "AMOUNT_SECONDS_MAX", 0.2)
    confirmed, over = await submitted(rig), await submitted(rig)
    with capture_logs() as said:
        rig.fake.refuses = "getTransaction"
        assert await rig.handle(confirmed) == []
        assert 1 < rig.fake.calls.count("getTransaction") < 10  # not as often as it can be asked
        rig.fake.refuses = "getSignatureStatuses"
        rig.fake.expire()
        assert await rig.handle(over) == []
    loud = [line for line in said if line["log_level"] == "warning" and line["event"] == "transaction_look_trouble"]
    told = [(line["order_id"], line["why"]) for line in loud]
    why = "Transaction history is not available from this node (-32011)"
    assert told == [(confirmed.order.id, f"getTransaction: {why}"), (over.order.id, f"getSignatureStatuses: {why}")]


async def test_a_venue_that_does_not_keep_to_the_least_it_was_told_is_warned_of(rig: Rig) -> None:
    now = selected()
    assert now.order.route
    least = now.order.route.min_out
    for amount_out, warnings in ((least, 0), (least - 1, 1)):
        rig.fake.amount_out = amount_out
        with capture_logs() as said:
            assert isinstance(await rig.settled(await submitted(rig)), TxConfirmed)
        loud = [line for line in said if line["event"] == "settled_below_the_minimum_the_venue_was_given"]
        assert [(line["venue"], line["amount_out"], line["min_out"]) for line in loud] == [
            ("raydium", amount_out, least)
        ] * warnings


async def test_a_node_that_is_late_with_what_it_shows_is_asked_less_and_less(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "AMOUNT_SECONDS_MAX", 1.5)
    rig.fake.hidden_transactions = 1_000_000
    assert await rig.handle(await submitted(rig)) == []
    assert 1 < rig.fake.calls.count("getTransaction") < 10


async def test_an_amount_that_never_shows_is_for_an_operator(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "AMOUNT_SECONDS_MAX", 0.1)
    rig.fake.hidden_transactions = 1_000_000
    now = await submitted(rig)
    assert await rig.handle(now) == []  # nodes may be minutes behind with what they show
    long_ago = now.order.model_copy(update={"updated_at": NOW - timedelta(minutes=11)})
    with pytest.raises(AmountUnknown, match="does not show the transaction"):
        await rig.handle(Snapshot(long_ago, now.event))
    rig.fake.hidden_transactions, rig.fake.mint_out = 0, "another"
    with pytest.raises(AmountUnknown, match="no USDC for the wallet"):
        await rig.handle(await submitted(rig))


@pytest.mark.parametrize(
    ("error", "reason", "ends"),
    [
        ({"InstructionError": [0, {"Custom": 6001}]}, Reason.SLIPPAGE_EXCEEDED, False),
        ({"InstructionError": [0, {"Custom": 6002}]}, Reason.INSUFFICIENT_LIQUIDITY, False),
        ({"InstructionError": [0, {"Custom": 6000}]}, Reason.TRANSACTION_REJECTED, False),
        ({"InstructionError": [0, {"Custom": 1}]}, Reason.INSUFFICIENT_FUNDS, True),
    ],
)
async def test_an_error_on_the_chain_ends_the_attempt_or_the_order(
    rig: Rig, error: Any, reason: Reason, ends: bool
) -> None:
    rig.fake.error = error
    event = await rig.settled(await submitted(rig))
    assert isinstance(event, OrderFailed if ends else AttemptFailed)
    assert (event.stage, event.reason) == ("execution", reason)


async def test_the_last_attempts_error_ends_the_order(rig: Rig) -> None:
    rig.fake.error = {"InstructionError": [0, {"Custom": 6001}]}
    event = await rig.settled(await submitted(rig, selected(attempt=POLICY.attempts_max)))
    assert isinstance(event, OrderFailed)
    assert (event.reason, event.attempt) == (Reason.SLIPPAGE_EXCEEDED, POLICY.attempts_max)
