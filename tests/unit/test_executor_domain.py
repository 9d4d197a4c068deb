"""Only evidence ends a submission; the chain's errors have reasons; amounts are read from balances exactly."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given, strategies as st

from libs.events.model import U64_MAX, Reason
from services.executor.domain import (
    AHEAD_MAX,
    ChainView,
    Commitment,
    Confirmed,
    Expired,
    FailedOnChain,
    Look,
    StillPending,
    TxStatus,
    against_quote_ppm,
    amount_received,
    believable,
    chain_error,
    conclude,
)
from tests.builders import SOL, USDC

LAST_VALID = 150
SETTLED: tuple[Commitment, ...] = ("confirmed", "finalized")
SLIPPED = {"InstructionError": [2, {"Custom": 6001}]}


def look(slot: int = 200, commitment: Commitment | None = None, error: Any = None) -> Look:
    return Look(slot, TxStatus(190, commitment, error) if commitment else None)


def view(height: int, slot: int = 200, valid: bool | None = False) -> ChainView:
    return ChainView(slot, height, valid)


@pytest.mark.parametrize("commitment", SETTLED)
@pytest.mark.parametrize("seen", [None, view(1), view(1_000)])
def test_a_settled_signature_without_error_is_confirmed_whatever_the_height(
    commitment: Commitment, seen: ChainView | None
) -> None:
    assert conclude(look(commitment=commitment), seen, LAST_VALID) == Confirmed(190)


@pytest.mark.parametrize("commitment", SETTLED)
def test_a_settled_signature_with_an_error_failed_on_the_chain(commitment: Commitment) -> None:
    evidence = conclude(look(commitment=commitment, error=SLIPPED), None, LAST_VALID)
    assert isinstance(evidence, FailedOnChain)
    assert evidence.reason is Reason.SLIPPAGE_EXCEEDED


@pytest.mark.parametrize(("error", "height"), list(product([None, SLIPPED], [1, 151, 10_000])))
def test_a_block_only_processed_may_still_vanish_and_proves_nothing(error: Any, height: int) -> None:
    assert conclude(look(commitment="processed", error=error), view(height), LAST_VALID) == StillPending()


def test_a_signature_not_there_proves_nothing_without_a_height() -> None:
    assert conclude(look(), None, LAST_VALID) == StillPending()


@pytest.mark.parametrize("height", [0, 149, 150])
def test_up_to_its_last_valid_block_it_may_still_land(height: int) -> None:
    assert conclude(look(), view(height), LAST_VALID) == StillPending()


def test_past_its_last_valid_block_and_not_there_it_has_expired() -> None:
    assert conclude(look(), view(151), LAST_VALID) == Expired(151)


def test_a_blockhash_the_chain_still_takes_has_not_expired_whatever_the_venue_said() -> None:
    assert conclude(look(), view(151, valid=True), LAST_VALID) == StillPending()


def test_where_a_node_cannot_say_whether_a_blockhash_holds_the_height_may_be_as_wrong_as_is_believed() -> None:
    assert conclude(look(), view(LAST_VALID + AHEAD_MAX, valid=None), LAST_VALID) == StillPending()
    assert conclude(look(), view(LAST_VALID + AHEAD_MAX + 1, valid=None), LAST_VALID) == Expired(451)


def test_a_node_behind_the_one_that_told_the_height_proves_nothing() -> None:
    assert conclude(look(slot=199), view(151, slot=200), LAST_VALID) == StillPending()


@given(
    st.builds(
        Look,
        st.integers(0, 400),
        st.none() | st.builds(TxStatus, st.integers(0, 400), st.sampled_from(["processed", *SETTLED]), st.none()),
    ),
    st.none() | st.builds(ChainView, st.integers(0, 400), st.integers(0, 400), st.sampled_from([True, False, None])),
    st.integers(0, 400),
)
def test_expiry_is_only_concluded_from_an_absent_signature_after_the_last_height(
    seen: Look, at: ChainView | None, last_valid: int
) -> None:
    evidence = conclude(seen, at, last_valid)
    if isinstance(evidence, Expired):
        assert seen.status is None
        assert at is not None
        assert at.block_height > last_valid
        assert seen.slot >= at.slot
    if isinstance(evidence, Confirmed | FailedOnChain):
        assert seen.status
        assert seen.status.settled


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"InstructionError": [0, {"Custom": 6001}]}, Reason.SLIPPAGE_EXCEEDED),
        ({"InstructionError": [3, {"Custom": 6002}]}, Reason.INSUFFICIENT_LIQUIDITY),
        ({"InstructionError": [0, {"Custom": 6003}]}, Reason.VENUE_REFUSED),
        ({"InstructionError": [0, {"Custom": 6004}]}, Reason.AMOUNT_TOO_SMALL),
        ({"InstructionError": [0, {"Custom": 1}]}, Reason.INSUFFICIENT_FUNDS),
        ({"InstructionError": [0, "InsufficientFunds"]}, Reason.INSUFFICIENT_FUNDS),
        ({"InsufficientFundsForRent": {"account_index": 0}}, Reason.INSUFFICIENT_FUNDS),
        ("InsufficientFundsForFee", Reason.INSUFFICIENT_FUNDS),
        ({"InstructionError": [0, {"Custom": 6000}]}, Reason.TRANSACTION_REJECTED),
        ({"InstructionError": [0, "InvalidInstructionData"]}, Reason.TRANSACTION_REJECTED),
        ({"InstructionError": []}, Reason.TRANSACTION_REJECTED),
        ({"InstructionError": 7}, Reason.TRANSACTION_REJECTED),
        ({"InstructionError": [0, ["Custom", 1]]}, Reason.TRANSACTION_REJECTED),
        ({"InstructionError": [0, {"Custom": "6001"}]}, Reason.TRANSACTION_REJECTED),
        ({"InstructionError": [0, {"Custom": [6001]}]}, Reason.TRANSACTION_REJECTED),
        ({}, Reason.TRANSACTION_REJECTED),
        ("AccountInUse", Reason.TRANSACTION_REJECTED),
        (17, Reason.TRANSACTION_REJECTED),
    ],
)
def test_the_chains_errors_have_reasons(error: Any, reason: Reason) -> None:
    found, detail = chain_error(error)
    assert found is reason
    assert detail


def balance(owner: str, mint: str, amount: int) -> dict[str, Any]:
    return {"accountIndex": 1, "mint": mint, "owner": owner, "uiTokenAmount": {"amount": str(amount), "decimals": 6}}


def test_what_came_out_is_the_difference_of_the_wallets_balances_of_that_token() -> None:
    meta = {
        "preTokenBalances": [balance("me", USDC, 100), balance("me", SOL, 900), balance("pool", USDC, 10**12)],
        "postTokenBalances": [balance("me", USDC, 2**63), balance("me", SOL, 400), balance("pool", USDC, 10**12 - 9)],
    }
    assert amount_received(meta, "me", USDC) == 2**63 - 100
    assert amount_received(meta, "me", SOL) == -500


def test_a_token_held_for_the_first_time_or_in_several_accounts_counts_fully() -> None:
    assert amount_received({"postTokenBalances": [balance("me", USDC, 7)]}, "me", USDC) == 7
    twice = {
        "preTokenBalances": [balance("me", USDC, 1)],
        "postTokenBalances": [balance("me", USDC, 5), balance("me", USDC, 3)],
    }
    assert amount_received(twice, "me", USDC) == 7


def test_sol_may_arrive_as_lamports_with_the_fee_added_back() -> None:
    meta = {"preBalances": [10_000, 5], "postBalances": [104_000, 5], "fee": 6_000, "postTokenBalances": []}
    assert amount_received(meta, "me", SOL) == 100_000
    assert amount_received(meta, "me", USDC) is None
    assert amount_received({}, "me", SOL) is None


def test_wrapped_sol_that_is_paid_out_on_the_way_was_there_before() -> None:
    meta = {"preBalances": [10_000, 900], "postBalances": [104_900, 0], "fee": 6_000, "postTokenBalances": []}
    assert amount_received(meta | {"preTokenBalances": [balance("me", SOL, 900)]}, "me", SOL) == 100_000
    assert amount_received(meta | {"preTokenBalances": [balance("pool", SOL, 900)]}, "me", SOL) == 100_900


def test_what_the_account_of_wrapped_sol_was_rented_for_did_not_come_out_of_the_swap() -> None:
    held = {"preTokenBalances": [balance("me", SOL, 900)], "postTokenBalances": [], "fee": 6_000}
    meta = held | {"preBalances": [10_000, 900 + 2_039], "postBalances": [104_900 + 2_039, 0]}
    assert amount_received(meta, "me", SOL) == 100_000


def test_against_the_quote_is_in_millionths_and_never_flattered() -> None:
    assert against_quote_ppm(100, 100) == 0
    assert against_quote_ppm(101, 100) == 10_000
    assert against_quote_ppm(995, 1_000) == -5_000
    assert against_quote_ppm(2_999_999, 3_000_000) == -1


def test_against_the_quote_is_a_number_that_readers_of_json_hold() -> None:
    assert against_quote_ppm(U64_MAX, 1) == 2**53 - 1


@pytest.mark.parametrize(("ahead", "is_believed"), [(-1, False), (0, True), (150, True), (300, True), (301, False)])
def test_a_transaction_is_valid_for_no_longer_than_a_lagging_node_explains(ahead: int, is_believed: bool) -> None:
    assert believable(1_000 + ahead, 1_000) is is_believed
