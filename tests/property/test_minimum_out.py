"""Whichever way a venue reads the client's minimum, what it lets through is no less."""

from fractions import Fraction

from hypothesis import given, strategies as st

from libs.events.model import U64_MAX
from libs.quoting.choice import WHOLE_BPS, min_out
from services.executor.venues import SwapRequest


@given(quoted=st.integers(1, U64_MAX), share=st.fractions(0, 1))
def test_slippage_of_a_quote_never_lets_less_through_than_its_minimum(quoted: int, share: Fraction) -> None:
    minimum = int(quoted * share)
    quote = SwapRequest({}, quoted, minimum, "wallet", "order").fields()["quoteResponse"]
    assert int(quote["otherAmountThreshold"]) == minimum
    assert 0 <= quote["slippageBps"] <= WHOLE_BPS
    assert min_out(quoted, quote["slippageBps"]) >= minimum


@given(quoted=st.integers(WHOLE_BPS, U64_MAX), slippage_bps=st.integers(0, WHOLE_BPS))
def test_an_order_without_a_minimum_of_its_own_keeps_its_slippage(quoted: int, slippage_bps: int) -> None:
    minimum = min_out(quoted, slippage_bps)
    quote = SwapRequest({}, quoted, minimum, "wallet", "order").fields()["quoteResponse"]
    assert quote["slippageBps"] == slippage_bps
    assert min_out(quoted, quote["slippageBps"]) >= minimum
