"""The local venues answer like an aggregator, and /admin does what it says: over real HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.venues.tokens import TOKENS
from tests.localworld import SOL, TEN_SOL, USDC, World, running

BONK, JUP, RAY = (TOKENS[symbol].mint for symbol in ("BONK", "JUP", "RAY"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as started:
        yield started


@pytest.mark.parametrize("venue", ["raydium", "meteora", "orca"])
async def test_a_quote_has_an_aggregators_shape(world: World, venue: str) -> None:
    query = {"inputMint": SOL, "outputMint": USDC, "amount": str(TEN_SOL), "slippageBps": "100"}
    status, quote = await world.body("GET", f"/venues/{venue}/quote", params=query)
    assert status == 200
    assert int(quote["otherAmountThreshold"]) == int(quote["outAmount"]) * 9_900 // 10_000
    assert (quote["inAmount"], quote["slippageBps"], quote["swapMode"]) == (str(TEN_SOL), 100, "ExactIn")
    assert quote["networkFeeLamports"] == 5_000
    (leg,) = quote["routePlan"]
    assert leg["percent"] == 100
    assert leg["swapInfo"]["outAmount"] == quote["outAmount"]
    assert 0 <= float(quote["priceImpactPct"]) < 0.001


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"inputMint": "SOL"}, 400, "TOKEN_NOT_TRADABLE"),
        ({"inputMint": BONK, "outputMint": RAY}, 404, "COULD_NOT_FIND_ANY_ROUTE"),
        ({"outputMint": SOL}, 400, "CIRCULAR_ARBITRAGE_IS_DISABLED"),
        ({"amount": "1"}, 400, "AMOUNT_TOO_SMALL"),
        ({"amount": str(10**18)}, 400, "INSUFFICIENT_LIQUIDITY"),
        ({"amount": "0"}, 400, "INVALID_REQUEST"),
        ({"amount": "-5"}, 400, "INVALID_REQUEST"),
        ({"amount": "1e9"}, 400, "INVALID_REQUEST"),
        ({"amount": str(2**64)}, 400, "INVALID_REQUEST"),
        ({"slippageBps": "10001"}, 400, "INVALID_REQUEST"),
    ],
)
async def test_what_cannot_be_quoted_says_why(world: World, changes: dict[str, str], status: int, code: str) -> None:
    query = {"inputMint": SOL, "outputMint": USDC, "amount": str(TEN_SOL)} | changes
    for venue in ("meteora", "orca"):
        answered, answer = await world.body("GET", f"/venues/{venue}/quote", params=query)
        assert (answered, answer["errorCode"]) == (status, code)
        assert answer["error"].endswith(".")


async def test_batch_entries_fail_alone(world: World) -> None:
    good = {"inputMint": SOL, "outputMint": USDC, "amount": str(TEN_SOL), "slippageBps": 50}
    entries = [
        good,
        good | {"inputMint": BONK, "outputMint": RAY},
        good | {"amount": 1.5},
        "x",
        good | {"inputMint": JUP},
    ]
    _, answer = await world.body("POST", "/venues/meteora/quotes", json={"quotes": entries})
    quotes = answer["quotes"]
    assert [item.get("errorCode") for item in quotes] == [
        None, "COULD_NOT_FIND_ANY_ROUTE", "INVALID_REQUEST", "INVALID_REQUEST", None,
    ]  # fmt: skip
    wanted = {"quoteResponse": quotes[0], "userPublicKey": world.wallet.address, "reference": "r"}
    swaps = [wanted, wanted | {"userPublicKey": "me"}, wanted | {"reference": "é" * 33}, wanted | {"quoteResponse": 1}]
    spoilt: list[dict[str, Any]] = [{"routePlan": []}, {"inAmount": "x"}]
    swaps += [wanted | {"quoteResponse": quotes[0] | changes} for changes in spoilt]
    _, answer = await world.body("POST", "/venues/meteora/swaps", json={"swaps": swaps})
    assert [item.get("errorCode") for item in answer["swaps"]] == [None] + ["INVALID_REQUEST"] * 5
    assert isinstance(answer["swaps"][0]["lastValidBlockHeight"], int)
    assert (await world.body("POST", "/venues/raydium/swap", json=wanted))[1]["errorCode"] == "INVALID_REQUEST"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"quotes":[]}', b'{"quotes":{}}', b'{"quotes":' + b"[" + b"1," * 256 + b"1]}"]
)
async def test_a_batch_that_is_none_is_refused(world: World, body: bytes) -> None:
    status, answer = await world.body("POST", "/venues/raydium/quotes", data=body)
    assert (status, answer["errorCode"]) == (400, "INVALID_REQUEST")


async def test_an_outage_is_seen_by_its_target_alone(world: World) -> None:
    query = {"inputMint": SOL, "outputMint": USDC, "amount": str(TEN_SOL)}
    status, trouble = await world.body("PUT", "/admin/trouble", json={"outages": ["rpc", "meteora"]})
    assert (status, trouble["outages"]) == (200, ["meteora", "rpc"])
    status, answer = await world.body("POST", "/", json={"jsonrpc": "2.0", "id": 1, "method": "getHealth"})
    assert (status, answer["error"]["code"]) == (503, -32005)
    assert (await world.body("GET", "/venues/meteora/quote", params=query))[0] == 503
    assert (await world.body("GET", "/venues/raydium/quote", params=query))[0] == 200
    assert (await world.body("GET", "/livez"))[0] == 200
    assert (await world.body("DELETE", "/admin/trouble"))[1]["outages"] == []
    assert await world.rpc("getHealth") == "ok"
    status, answer = await world.body("PUT", "/admin/trouble", json={"outages": ["lifinity"]})
    assert (status, answer["errorCode"]) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("fields", [{"expire_blockhashes": "yes"}, {"drop_rate": 2}, {"weather": "bad"}])
async def test_trouble_that_is_none_is_refused(world: World, fields: dict[str, Any]) -> None:
    status, answer = await world.body("PUT", "/admin/trouble", json=fields)
    assert (status, answer["errorCode"]) == (400, "INVALID_REQUEST")
    assert next(iter(fields)) in answer["error"]


async def test_pools_can_be_looked_at(world: World) -> None:
    _, answer = await world.body("GET", "/admin/pools")
    assert {(pool["venue"], pool["pair"]) for pool in answer["pools"]} >= {
        ("raydium", "SOL/USDC"),
        ("meteora", "SOL/USDC"),
        ("orca", "SOL/USDC"),
    }
