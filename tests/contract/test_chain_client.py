"""An order is settled at most once, whatever the chain does: over real sockets, with a node on its worst behaviour."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from solders.hash import Hash
from solders.keypair import Keypair

from libs.events.log import Snapshot
from libs.events.model import (
    AttemptFailed,
    Event,
    OrderExpired,
    OrderFailed,
    Reason,
    RouteSelected,
    RoutingStarted,
    TxConfirmed,
    TxSubmitted,
)
from libs.events.retry import RetryPolicy
from libs.service.health import serve
from libs.service.http import open_session
from services.executor import handlers
from services.executor.chain import Chain, Poller
from services.executor.handlers import AmountUnknown, Executor
from services.executor.rpc import Call, ChainUnavailable, Rpc, RpcRefused
from services.executor.venues import VenueSwaps
from services.executor.wallet import Wallet
from tests.builders import NOW, USDC, a_request, route_selected, then
from tests.contract.fake_chain import FakeChain, signature_of, unsigned_for
from tests.waiting import eventually

WALLET = Wallet(str(Keypair()))
POLICY = RetryPolicy(attempts_max=3, base_ms=100, cap_ms=1_000)
POLL_MS = 20


@dataclass(frozen=True)
class Rig:
    """An executor in front of a fake chain that is its venue too."""

    fake: FakeChain
    rpc: Rpc
    chain: Chain
    poller: Poller
    executor: Executor

    async def handle(self, now: Snapshot) -> Sequence[Event]:
        return await self.executor.handle(now.order, now.event)

    async def settled(self, now: Snapshot) -> Event:
        """As the runtime does: no events means, ask again."""
        while not (events := await self.handle(now)):
            pass
        (event,) = events
        return event


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(handlers, "RESEND_MS", 60)
    monkeypatch.setattr(handlers, "UNSENT_PAUSE_MS", 10)
    fake = FakeChain(mint_out=USDC)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serve(fake.app(), "127.0.0.1", 0, drain_s=0))
        session = await stack.enter_async_context(open_session())
        rpc = await stack.enter_async_context(aclosing(Rpc(session, f"http://127.0.0.1:{port}")))
        chain = Chain(rpc)
        poller = await stack.enter_async_context(aclosing(Poller(chain, POLL_MS)))
        venue = await stack.enter_async_context(aclosing(VenueSwaps(f"http://127.0.0.1:{port}/venue", session)))
        executor = Executor(WALLET, {"raydium": venue}, chain, poller, POLICY, lambda: NOW, lambda: 0.5)
        yield Rig(fake, rpc, chain, poller, executor)


def selected(attempt: int = 1, **changes: object) -> Snapshot:
    _, now = a_request(4)
    _, now = then(now, RoutingStarted(attempt=attempt), route_selected(attempt))
    return Snapshot(now.order.model_copy(update=changes), now.event)


async def submitted(rig: Rig, now: Snapshot | None = None) -> Snapshot:
    now = now or selected()
    _, after = then(now, *await rig.handle(now))
    assert isinstance(after.event.data, TxSubmitted)
    return after


def intent(now: Snapshot) -> TxSubmitted:
    assert isinstance(now.event.data, TxSubmitted)
    return now.event.data


async def test_the_intent_is_complete_before_anything_is_sent(rig: Rig) -> None:
    now = selected()
    sent = intent(await submitted(rig, now))
    assert rig.fake.requests == 0
    assert signature_of(sent.transaction) == sent.signature
    assert sent.last_valid_block_height == rig.fake.height + 150
    (built,) = rig.fake.built
    assert now.order.route
    assert built["quoteResponse"] == {"outAmount": "1500000000", "otherAmountThreshold": str(now.order.route.min_out)}
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
    last_height = len(rig.fake.calls) - 1 - rig.fake.calls[::-1].index("getBlockHeight")
    assert "getSignatureStatuses" in rig.fake.calls[last_height:]
    assert not rig.fake.landed


async def test_a_transaction_that_landed_just_before_its_expiry_is_found_not_signed_again(rig: Rig) -> None:
    now = await submitted(rig)
    await rig.chain.send(intent(now).transaction)
    rig.fake.expire()
    rig.fake.nulls = 1_000_000

    settled = asyncio.create_task(rig.settled(now))
    await eventually(lambda: "getBlockHeight" in rig.fake.calls, poll_s=0.001)
    rig.fake.nulls = 0
    assert isinstance(await settled, TxConfirmed)


async def handled_for_a_while(rig: Rig, now: Snapshot, monkeypatch: pytest.MonkeyPatch) -> Sequence[Event]:
    monkeypatch.setattr(handlers, "SETTLE_SECONDS_MAX", 0.3)
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


async def test_a_node_that_cannot_judge_blockhashes_is_judged_by_height(rig: Rig) -> None:
    rig.fake.knows_blockhash_valid = False
    rig.fake.drop, rig.fake.on_drop = 1, rig.fake.expire
    event = await rig.settled(await submitted(rig))
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


async def test_a_chain_away_when_the_amount_is_read_is_asked_again(rig: Rig) -> None:
    now = await submitted(rig)
    await rig.chain.send(intent(now).transaction)
    rig.fake.hidden_transactions = 3
    assert isinstance(await rig.settled(now), TxConfirmed)


async def test_an_amount_that_never_shows_is_for_an_operator(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "AMOUNT_SECONDS_MAX", 0.1)
    rig.fake.hidden_transactions = 1_000_000
    with pytest.raises(AmountUnknown, match="does not show the transaction"):
        await rig.handle(await submitted(rig))
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


async def test_an_order_whose_time_is_over_is_not_signed(rig: Rig) -> None:
    assert await rig.handle(selected(expires_at=NOW)) == [OrderExpired(expires_at=NOW)]
    assert not rig.fake.built


async def test_an_order_whose_time_is_over_after_the_intent_is_still_settled(rig: Rig) -> None:
    now = await submitted(rig)
    late = Snapshot(now.order.model_copy(update={"expires_at": NOW}), now.event)
    assert isinstance(await rig.settled(late), TxConfirmed)


BLOCKHASH = Hash.new_unique()
STRANGERS = unsigned_for(str(Keypair().pubkey()), "", BLOCKHASH)


@pytest.mark.parametrize(
    ("body", "status", "reason", "detail"),
    [
        ({}, 503, Reason.VENUES_UNAVAILABLE, "raydium: HTTP 503"),
        ({"error": "stale", "errorCode": "X"}, 400, Reason.VENUE_REFUSED, "raydium: the venue refused to build: stale"),
        (None, 400, Reason.VENUE_REFUSED, "raydium: the venue refused to build: no reason given"),
        ({"error": "dry", "errorCode": "INSUFFICIENT_LIQUIDITY"}, 400, Reason.INSUFFICIENT_LIQUIDITY, "raydium:"),
        ({}, 200, Reason.VENUE_REFUSED, "raydium: venue answered nonsense: swapTransaction: Field required"),
        ([], 200, Reason.VENUE_REFUSED, "raydium: venue answered nonsense:"),
        ({"swapTransaction": "AQ==", "lastValidBlockHeight": "1"}, 200, Reason.VENUE_REFUSED, "raydium: venue"),
        ({"swapTransaction": "AQ==", "lastValidBlockHeight": 1}, 200, Reason.VENUE_REFUSED, "raydium: not signed: not"),
        ({"swapTransaction": STRANGERS, "lastValidBlockHeight": 1}, 200, Reason.VENUE_REFUSED, "raydium: not signed:"),
    ],
)
async def test_what_cannot_be_built_or_signed_is_a_failed_attempt(
    rig: Rig, body: Any, status: int, reason: Reason, detail: str
) -> None:
    rig.fake.build_reply = lambda _body: web.json_response(body, status=status)
    (event,) = await rig.handle(selected())
    assert isinstance(event, AttemptFailed)
    assert (event.stage, event.reason) == ("execution", reason)
    assert event.detail.startswith(detail)


async def test_a_route_over_a_venue_no_longer_configured_is_a_failed_attempt(rig: Rig) -> None:
    now = selected()
    assert isinstance(now.event.data, RouteSelected)
    route = now.event.data.route
    elsewhere = route.model_copy(update={"legs": (route.legs[0].model_copy(update={"venue": "gone"}),)})
    event = now.event.model_copy(update={"data": now.event.data.model_copy(update={"route": elsewhere})})
    (failed,) = await rig.handle(Snapshot(now.order, event))
    assert isinstance(failed, AttemptFailed)
    assert failed.reason is Reason.VENUES_UNAVAILABLE


@pytest.mark.parametrize("has_lists", [True, False])
async def test_many_orders_share_requests_at_every_step(rig: Rig, has_lists: bool) -> None:
    rig.fake.has_lists = has_lists
    orders = [selected() for _ in range(120)]
    rig.fake.nulls = 100
    intents = await asyncio.gather(*(submitted(rig, now) for now in orders))
    assert len({intent(now).signature for now in intents}) == 120
    assert {body["reference"] for body in rig.fake.built} == {now.order.id for now in orders}
    events = await asyncio.gather(*(rig.settled(now) for now in intents))
    assert all(isinstance(event, TxConfirmed) for event in events)
    assert len(rig.fake.landed) == 120
    assert max(rig.fake.status_sizes) > 20
    assert rig.fake.requests < 120  # sends, statuses and transactions of 120 orders
    assert rig.fake.swap_lists <= (4 if has_lists else 0)


async def test_no_status_call_asks_for_more_than_a_node_answers(rig: Rig) -> None:
    watches = [rig.poller.watch(f"signature-{number}", 200) for number in range(600)]
    assert await asyncio.gather(*watches) == [None] * 600
    assert max(rig.fake.status_sizes) == 256


async def test_a_watch_that_is_given_up_disturbs_nobody(rig: Rig) -> None:
    now = await submitted(rig)
    rig.fake.nulls = 3
    await rig.chain.send(intent(now).transaction)
    gone = asyncio.create_task(rig.poller.watch("never", 10_000))
    seen = asyncio.create_task(rig.poller.watch(intent(now).signature, 10_000))
    await asyncio.sleep(0)
    gone.cancel()
    look = await seen
    assert look
    assert look.status


async def test_results_of_a_shared_request_go_to_their_own_callers(rig: Rig) -> None:
    rig.fake.gate.clear()
    tasks = [asyncio.create_task(rig.rpc.call(method)) for method in ["getSlot", "getBlockHeight", "nonsense"] * 5]
    rig.fake.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for slot, height, nonsense in zip(results[::3], results[1::3], results[2::3], strict=True):
        assert (slot, height) == (1_000, 900)
        assert isinstance(nonsense, RpcRefused)
        assert nonsense.code == -32601
    together = await rig.rpc.together(Call("getSlot"), Call("nonsense"))
    assert together[0] == 1_000
    assert isinstance(together[1], RpcRefused)


@pytest.mark.parametrize(
    "reply",
    [
        web.json_response([]),
        web.json_response({}),
        web.json_response("what?"),
        web.json_response({"id": 7, "result": 1}),
        web.json_response({"id": None, "error": {"code": -32600, "message": "batch too long"}}),
        web.Response(body=b"<html>"),
        web.json_response({"id": 0, "result": 1}, status=403),
    ],
    ids=range(7),
)
async def test_a_node_that_does_not_speak_json_rpc_is_unavailable(reply: web.Response) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=reply.body, status=reply.status)

    app = web.Application()
    app.add_routes([web.post("/", answer)])
    async with serve(app, "127.0.0.1", 0) as port, open_session() as session:
        rpc = Rpc(session, f"http://127.0.0.1:{port}")
        with pytest.raises(ChainUnavailable):
            await rpc.call("getSlot")
        await rpc.aclose()


async def test_the_secret_is_in_no_text_of_the_wallet() -> None:
    key = Keypair()
    wallet = Wallet(str(key))
    signed = wallet.sign(unsigned_for(wallet.address, "order", BLOCKHASH))
    secret = bytes(key)[:32]
    assert secret not in base64.b64decode(signed.transaction)
    assert str(key) not in repr(wallet) + repr(signed) + str(vars(wallet).keys())
