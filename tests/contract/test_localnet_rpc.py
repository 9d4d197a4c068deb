"""The local chain answers like a Solana node, its venues like an aggregator: over real HTTP."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession

from libs.service.health import Health, serve
from libs.venues.tokens import TOKENS
from services.localnet.app import create_app
from services.localnet.node import Node
from services.localnet.storage import open_storage
from services.localnet.trouble import Trouble
from tests.waiting import eventually
from tests.wallet import Wallet

SOL, USDC, JUP, RAY = (TOKENS[symbol].mint for symbol in ("SOL", "USDC", "JUP", "RAY"))
TEN_SOL = 10 * 10**9
UNKNOWN_SIGNATURE = "3f5455HGfYMF3uPyd6cKGftpk2r8xiYKZXxjN3yV6quPCzybfa49EUBgx6QxsjW1pSZSb9jT6LdwUfcypSmMp8vr"


class World:
    """A client of one running local chain."""

    def __init__(self, session: ClientSession, base: str, node: Node) -> None:
        self.session, self.base, self.node = session, base, node
        self.wallet = Wallet()

    async def body(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        async with self.session.request(method, self.base + path, **kwargs) as response:
            return response.status, await _json(response)

    async def rpc(self, method: str, *params: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
        status, answer = await self.body("POST", "/", json=request)
        assert status == 200
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
        return answer["result"] if "result" in answer else answer["error"]

    async def signed_swap(self, venue: str = "raydium", reference: str = "order-1", **changes: Any) -> str:
        query = {"inputMint": SOL, "outputMint": USDC, "amount": str(TEN_SOL), "slippageBps": "50"}
        _, quote = await self.body("GET", f"/venues/{venue}/quote", params=query)
        request = {"quoteResponse": quote | changes, "userPublicKey": self.wallet.address, "reference": reference}
        _, built = await self.body("POST", f"/venues/{venue}/swap", json=request)
        return self.wallet.sign(built["swapTransaction"])

    async def send(self, transaction: str, **options: Any) -> Any:
        return await self.rpc("sendTransaction", transaction, {"encoding": "base64", **options})

    async def landed(self, signature: str) -> Any:
        async def status() -> Any:
            return (await self.rpc("getSignatureStatuses", [signature]))["value"][0]

        return await eventually(status, what="the transaction lands")


async def _json(response: ClientResponse) -> Any:
    return await response.json() if response.status != 204 else None


@asynccontextmanager
async def running(folder: Path, slot_ms: int = 0) -> AsyncIterator[World]:
    stop, health = asyncio.Event(), Health()
    with open_storage(folder) as storage:
        node = Node(storage, Trouble(1), seed=1, slot_ms=slot_ms)
        async with serve(create_app(node, health), "127.0.0.1", 0) as port, ClientSession() as session:
            making = asyncio.create_task(node.run(stop))
            try:
                yield World(session, f"http://127.0.0.1:{port}", node)
            finally:
                stop.set()
                await making


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as started:
        yield started


async def test_a_swap_from_quote_to_finality(world: World) -> None:
    transaction = await world.signed_swap(reference="order-9")
    signature = await world.send(transaction)
    status = await world.landed(signature)
    assert status["err"] is None
    assert status["status"] == {"Ok": None}
    assert status["confirmationStatus"] == "confirmed"
    assert await world.send(transaction) == signature
    _, settled = await world.body("GET", "/admin/settled", params={"reference": "order-9"})
    assert settled == [{"signature": signature, "slot": status["slot"], "err": None}]
    for _ in range(33):
        await world.node.make_block()
    final = await world.landed(signature)
    assert (final["confirmationStatus"], final["confirmations"]) == ("finalized", None)
    _, summary = await world.body("GET", "/admin/settled")
    assert summary == {"references": 1, "settled_more_than_once": []}


async def test_a_transaction_tells_what_its_payer_gained_and_paid(world: World) -> None:
    query = {"inputMint": SOL, "outputMint": USDC, "amount": str(TEN_SOL)}
    _, quote = await world.body("GET", "/venues/raydium/quote", params=query)
    signature = await world.send(await world.signed_swap())
    slot = (await world.landed(signature))["slot"]
    seen = await world.rpc("getTransaction", signature, {"maxSupportedTransactionVersion": 0})
    assert (seen["slot"], seen["meta"]["err"], seen["meta"]["fee"]) == (slot, None, 5_000)
    assert isinstance(seen["blockTime"], int)
    assert seen["meta"]["postBalances"][0] - seen["meta"]["preBalances"][0] == -5_000
    before, after = (
        {item["mint"]: int(item["uiTokenAmount"]["amount"]) for item in seen["meta"][name]}
        for name in ("preTokenBalances", "postTokenBalances")
    )
    assert after[SOL] - before[SOL] == -TEN_SOL
    assert after[USDC] - before[USDC] == int(quote["outAmount"])
    assert {item["owner"] for item in seen["meta"]["preTokenBalances"]} == {world.wallet.address}
    accounts = await world.rpc("getTokenAccountsByOwner", world.wallet.address, {"mint": USDC})
    amount = accounts["value"][0]["account"]["data"]["parsed"]["info"]["tokenAmount"]["amount"]
    assert int(amount) == after[USDC]
    assert await world.rpc("getTransaction", UNKNOWN_SIGNATURE) is None


async def test_preflight_refuses_what_would_fail_and_skipping_it_lets_it_fail_on_chain(world: World) -> None:
    refused = await world.send(await world.signed_swap(otherAmountThreshold=str(10**15)))
    assert refused["code"] == -32002
    assert refused["message"].endswith("Error processing Instruction 0: custom program error: 0x1771")
    assert refused["data"]["err"] == {"InstructionError": [0, {"Custom": 6001}]}
    doomed = await world.signed_swap(otherAmountThreshold=str(10**15))
    status = await world.landed(await world.send(doomed, skipPreflight=True))
    assert status["err"] == {"InstructionError": [0, {"Custom": 6001}]}
    assert status["status"] == {"Err": status["err"]}


async def test_an_expired_blockhash_is_refused_and_a_settled_signature_is_not(world: World) -> None:
    settled, late = await world.signed_swap(), await world.signed_swap()
    signature = await world.send(settled)
    await world.landed(signature)
    latest = (await world.rpc("getLatestBlockhash"))["value"]
    for _ in range(2):
        await world.body("PUT", "/admin/trouble", json={"expire_blockhashes": True})
    assert await world.rpc("getBlockHeight") > latest["lastValidBlockHeight"]
    assert (await world.rpc("isBlockhashValid", latest["blockhash"]))["value"] is False
    refused = await world.send(late)
    assert (refused["code"], refused["message"]) == (
        -32002,
        "Transaction simulation failed: Blockhash not found",
    )
    assert await world.send(settled) == signature
    assert (await world.rpc("getSignatureStatuses", [signature]))["value"] == [None]
    found = await world.rpc("getSignatureStatuses", [signature], {"searchTransactionHistory": True})
    assert found["value"][0]["err"] is None


@pytest.mark.parametrize("encoding", ["base58", "base64"])
async def test_both_encodings_are_read(world: World, encoding: str) -> None:
    raw = base64.b64decode(await world.signed_swap())
    text = base64.b64encode(raw).decode() if encoding == "base64" else _base58(raw)
    assert (await world.landed(await world.rpc("sendTransaction", text, {"encoding": encoding})))["err"] is None


def _base58(raw: bytes) -> str:
    alphabet, number, text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", int.from_bytes(raw), ""
    while number:
        number, rest = divmod(number, 58)
        text = alphabet[rest] + text
    return text


async def test_plain_reads_have_solanas_shapes(world: World) -> None:
    assert await world.rpc("getHealth") == "ok"
    assert isinstance(await world.rpc("getSlot"), int)
    latest = await world.rpc("getLatestBlockhash", {"commitment": "confirmed"})
    height = await world.rpc("getBlockHeight")
    assert set(latest) == {"context", "value"}
    assert latest["value"]["lastValidBlockHeight"] <= height + 150
    statuses = await world.rpc("getSignatureStatuses", [UNKNOWN_SIGNATURE])
    assert statuses["value"] == [None]


@pytest.mark.parametrize(
    ("request_body", "code"),
    [
        (b"{", -32700),
        (b"[]", -32600),
        (b"7", -32600),
        (b'{"id":1,"method":"getSlot"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"getNothing"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"getSignatureStatuses"}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getSignatureStatuses","params":[["x"]]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getSlot","params":{}}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"sendTransaction","params":["!"]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"sendTransaction","params":["AAAA",{"encoding":"hex"}]}', -32602),
    ],
)
async def test_bad_requests_have_their_codes(world: World, request_body: bytes, code: int) -> None:
    status, answer = await world.body("POST", "/", data=request_body)
    assert status == 200
    assert answer["error"]["code"] == code


async def test_an_unsigned_transaction_fails_verification(world: World) -> None:
    _, quote = await world.body(
        "GET", "/venues/raydium/quote", params={"inputMint": SOL, "outputMint": USDC, "amount": "1000000"}
    )
    request = {"quoteResponse": quote, "userPublicKey": world.wallet.address}
    _, built = await world.body("POST", "/venues/raydium/swap", json=request)
    assert (await world.send(built["swapTransaction"]))["code"] == -32003


async def test_batches_answer_in_order_and_notifications_not_at_all(world: World) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": "a", "method": "getSlot"},
        {"jsonrpc": "2.0", "method": "getSlot"},
        {"jsonrpc": "2.0", "id": "b", "method": "nope"},
        5,
    ]
    _, answers = await world.body("POST", "/", json=batch)
    assert [answer["id"] for answer in answers] == ["a", "b", None]
    status, _ = await world.body("POST", "/", json=batch[1])
    assert status == 204
    _, answer = await world.body("POST", "/", json=[batch[0]] * 513)
    assert answer["error"]["code"] == -32600


@pytest.mark.parametrize("venue", ["raydium", "meteora"])
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
        ({"outputMint": RAY}, 404, "COULD_NOT_FIND_ANY_ROUTE"),
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
    answered, answer = await world.body("GET", "/venues/meteora/quote", params=query)
    assert (answered, answer["errorCode"]) == (status, code)
    assert answer["error"].endswith(".")


async def test_batch_entries_fail_alone(world: World) -> None:
    good = {"inputMint": SOL, "outputMint": USDC, "amount": str(TEN_SOL), "slippageBps": 50}
    entries = [good, good | {"outputMint": RAY}, good | {"amount": 1.5}, "x", good | {"inputMint": JUP}]
    _, answer = await world.body("POST", "/venues/meteora/quotes", json={"quotes": entries})
    quotes = answer["quotes"]
    assert [item.get("errorCode") for item in quotes] == [
        None, "COULD_NOT_FIND_ANY_ROUTE", "INVALID_REQUEST", "INVALID_REQUEST", None,
    ]  # fmt: skip
    wanted = {"quoteResponse": quotes[0], "userPublicKey": world.wallet.address, "reference": "r"}
    swaps = [wanted, wanted | {"userPublicKey": "me"}, wanted | {"reference": "é" * 33}, wanted | {"quoteResponse": 1}]
    _, answer = await world.body("POST", "/venues/meteora/swaps", json={"swaps": swaps})
    assert [item.get("errorCode") for item in answer["swaps"]] == [None] + ["INVALID_REQUEST"] * 3
    assert isinstance(answer["swaps"][0]["lastValidBlockHeight"], int)


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
    status, answer = await world.body("PUT", "/admin/trouble", json={"outages": ["orca"]})
    assert (status, answer["errorCode"]) == (400, "INVALID_REQUEST")


async def test_pools_can_be_looked_at(world: World) -> None:
    _, answer = await world.body("GET", "/admin/pools")
    assert {(pool["venue"], pool["pair"]) for pool in answer["pools"]} >= {
        ("raydium", "SOL/USDC"),
        ("meteora", "SOL/USDC"),
    }


async def test_slots_come_in_time_without_any_work(tmp_path: Path) -> None:
    async with running(tmp_path, slot_ms=5) as world:

        def later() -> bool:
            return world.node.chain.tip.height >= 10

        await eventually(later, what="ten slots have passed")
        assert await world.rpc("getSlot") >= 10
        signature = await world.send(await world.signed_swap())
        assert (await world.landed(signature))["err"] is None
