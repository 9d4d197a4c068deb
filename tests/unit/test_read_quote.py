"""A venue's answer is taken to the last digit it may have, and not a digit further."""

from typing import Any

import orjson
import pytest

from libs.events.envelope import event_of
from libs.events.model import U64_MAX, Reason
from libs.events.retry import RetryPolicy
from libs.quoting.answer import QUOTE_BYTES_MAX, Answer, NoQuote, Quote
from libs.quoting.choice import decide
from libs.quoting.venue import BRACKETS_MAX, HOPS_MAX, Question, read_quote
from tests.builders import NOW, SOL, USDC, a_request

POOL, OTHER_POOL = "9sdTB1ZuChheS7jgfD6UWA4qP8bQXosJFRUcV5R1YMZY", "H4Yx9HT5DyJ857119SXLfcmTc6wpf8zGNE762W8imQh3"
QUESTION = Question(SOL, USDC, 10**9, 50, "SOL/USDC")


def a_hop(pool: str = POOL, **changes: Any) -> dict[str, Any]:
    return {"swapInfo": {"ammKey": pool, "feeAmount": "7", "feeMint": SOL} | changes}


def a_body(*hops: dict[str, Any], **changes: Any) -> dict[str, Any]:
    plan = list(hops) or [a_hop()]
    said = {"inputMint": SOL, "outputMint": USDC, "inAmount": str(10**9), "outAmount": "150", "routePlan": plan}
    return said | changes


def taken(body: dict[str, Any]) -> Quote:
    found = read_quote(QUESTION, body)
    assert isinstance(found, Quote), found
    return found


def nonsense(body: dict[str, Any]) -> str:
    found = read_quote(QUESTION, body)
    assert isinstance(found, NoQuote)
    assert found.reason is Reason.VENUE_REFUSED
    return found.why.removeprefix("venue answered nonsense: ")


@pytest.mark.parametrize("lamports", [0, 1, U64_MAX])
def test_any_fee_of_64_bits_is_one(lamports: int) -> None:
    assert taken(a_body(networkFeeLamports=lamports)).network_fee_lamports == lamports


@pytest.mark.parametrize("lamports", [-1, "5000", 5000.0, True, None])
def test_what_is_no_fee_is_not_taken_for_one(lamports: object) -> None:
    assert nonsense(a_body(networkFeeLamports=lamports)) == "networkFeeLamports is not a number of lamports"


@pytest.mark.parametrize("address", [None, 7, "", "short", POOL[:31], POOL + "1", POOL[:-1] + "0", f"{POOL[:-1]} "])
def test_what_is_no_address_is_no_pool(address: object) -> None:
    assert nonsense(a_body(a_hop(ammKey=address))) == "ammKey is not an address"
    wanted = "" if address is None else "feeMint is not an address"
    assert isinstance(read_quote(QUESTION, a_body(a_hop(feeMint=address))), Quote) == (not wanted)


def test_pools_are_told_in_their_order_and_fees_of_one_token_are_added() -> None:
    quote = taken(a_body(a_hop(), a_hop(OTHER_POOL)))
    assert (quote.pool, quote.fee, quote.fee_mint) == (f"{POOL}+{OTHER_POOL}", 14, SOL)


def test_a_fee_in_another_token_than_the_first_is_left_out() -> None:
    quote = taken(a_body(a_hop(), a_hop(OTHER_POOL, feeMint=USDC)))
    assert (quote.fee, quote.fee_mint) == (7, SOL)
    quote = taken(a_body(a_hop(feeMint=USDC), a_hop(OTHER_POOL, feeMint=SOL)))
    assert (quote.fee, quote.fee_mint) == (7, USDC)


def test_without_a_token_a_fee_is_of_the_one_sold_or_of_the_first_fee() -> None:
    quote = taken(a_body(a_hop(feeMint=None)))
    assert (quote.fee, quote.fee_mint) == (7, SOL)
    quote = taken(a_body(a_hop(feeMint=USDC), a_hop(OTHER_POOL, feeMint=None)))
    assert (quote.fee, quote.fee_mint) == (14, USDC)


def test_fees_may_add_up_to_64_bits_and_no_further() -> None:
    most = a_hop(feeAmount=str(U64_MAX - 7))
    assert taken(a_body(most, a_hop(OTHER_POOL))).fee == U64_MAX
    assert nonsense(a_body(most, a_hop(OTHER_POOL, feeAmount="8"))) == "an amount beyond 64 bits"


def test_a_quote_is_kept_up_to_its_longest_and_no_longer() -> None:
    room = QUOTE_BYTES_MAX - len(orjson.dumps(a_body(padding="")))
    assert taken(a_body(padding="x" * room))
    assert nonsense(a_body(padding="x" * (room + 1))) == "the quote is too long to keep"


def test_a_quote_may_have_so_many_brackets_and_no_more() -> None:
    raw = orjson.dumps(a_body(padding=[]))
    room = BRACKETS_MAX - raw.count(b"{") - raw.count(b"[")
    assert taken(a_body(padding=[[]] * room))
    assert nonsense(a_body(padding=[[]] * (room + 1))) == "the quote is too long to keep"


def test_a_quote_nested_as_deep_as_it_may_be_is_read_again_from_the_log() -> None:
    raw = orjson.dumps(a_body(padding=0))
    room = BRACKETS_MAX - raw.count(b"{") - raw.count(b"[")
    quote = taken(orjson.loads(raw.replace(b'"padding":0', b'"padding":' + b"[" * room + b"]" * room)))
    _, now = a_request(4)
    selected = decide(
        now.order, [Answer("raydium", 1, quote)], now=NOW, fraction=0, policy=RetryPolicy(1, 1, 1), attempt=1
    )
    assert event_of("RouteSelected", 1, selected.model_dump_json()) == selected


def test_a_refusal_nested_deeper_than_can_be_shown_is_a_refusal() -> None:
    assert nonsense({"error": orjson.loads(b"[" * 1_020 + b"]" * 1_020)}).startswith("refused, HTTP 200: something")


def test_a_way_may_have_so_many_hops_and_no_more() -> None:
    assert taken(a_body(*[a_hop()] * HOPS_MAX)).pool.count("+") == HOPS_MAX - 1
    assert nonsense(a_body(*[a_hop()] * (HOPS_MAX + 1))).startswith("routePlan is not a list of 1 to")
