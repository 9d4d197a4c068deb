"""The local chain answers like a Solana node: over real HTTP."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from solders.transaction import VersionedTransaction

from tests.localworld import SOL, TEN_SOL, USDC, World, running
from tests.waiting import eventually

UNKNOWN_SIGNATURE = "3f5455HGfYMF3uPyd6cKGftpk2r8xiYKZXxjN3yV6quPCzybfa49EUBgx6QxsjW1pSZSb9jT6LdwUfcypSmMp8vr"


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
    _, answer = await world.body("POST", "/", data=b'{"jsonrpc":"2.0","id":1,"method":"getSlot","params":null}')
    assert isinstance(answer["result"], int)


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


async def test_slots_come_in_time_without_any_work(tmp_path: Path) -> None:
    async with running(tmp_path, slot_ms=5) as world:

        def later() -> bool:
            return world.node.chain.tip.height >= 10

        await eventually(later, what="ten slots have passed")
        assert await world.rpc("getSlot") >= 10
        signature = await world.send(await world.signed_swap())
        assert (await world.landed(signature))["err"] is None


@pytest.mark.parametrize(("slot_ms", "told"), [(0, True), (3_600_000, False)])
async def test_a_batch_tells_how_what_it_sends_ended_where_blocks_need_no_waiting(
    tmp_path: Path, slot_ms: int, told: bool
) -> None:
    async with running(tmp_path, slot_ms=slot_ms) as world:
        transaction = await world.signed_swap()
        signature = str(VersionedTransaction.from_bytes(base64.b64decode(transaction)).signatures[0])
        calls: list[tuple[str, list[object]]] = [
            ("getSignatureStatuses", [[signature]]),
            ("sendTransaction", [transaction, {"encoding": "base64", "skipPreflight": True}]),
            ("getTransaction", [signature, {"maxSupportedTransactionVersion": 0}]),
        ]
        batch = [
            {"jsonrpc": "2.0", "id": n, "method": name, "params": params} for n, (name, params) in enumerate(calls)
        ]
        _, answers = await world.body("POST", "/", json=batch)
        assert [answer["id"] for answer in answers] == [0, 1, 2]
        status, sent, shown = (answer["result"] for answer in answers)
        assert sent == signature
        assert (status["value"][0] is not None, shown is not None) == (told, told)
