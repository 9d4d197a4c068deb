"""Many orders share the requests to a node, and each gets its own answer: over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web

from libs.events.model import AttemptFailed, Reason, TxConfirmed, TxSubmitted
from libs.service.health import serve
from libs.service.http import open_session
from services.executor import handlers, rpc, settling
from services.executor.domain import AHEAD_MAX
from services.executor.rpc import Call, ChainUnavailable, Rpc, RpcRefused
from services.executor.venues import VenueSwaps
from tests.contract.executor_rig import WALLET, Rig, intent, running_rig, selected, selected_at, submitted
from tests.contract.fake_chain import FakeChain, reference_of


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    async with running_rig(monkeypatch) as rig:
        yield rig


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
    # Each order's own would be 360: a send, a status and a transaction. A slow machine only looks more often.
    assert rig.fake.requests < 240
    assert rig.fake.swap_lists <= (4 if has_lists else 0)


@pytest.mark.parametrize(("body", "status"), [({"error": "no"}, 400), ({}, 413), ({"swaps": [{}]}, 200)])
async def test_a_list_of_swaps_refused_as_a_whole_is_built_one_by_one(rig: Rig, body: Any, status: int) -> None:
    orders = [selected() for _ in range(6)]
    rig.fake.list_reply = lambda: web.json_response(body, status=status)
    built = await rig.executor.handle_many([(now.order, now.event) for now in orders])
    assert [type(event) for (event,) in built] == [TxSubmitted] * 6
    assert rig.fake.swap_lists == 1


@pytest.mark.parametrize("names", [True, False])
async def test_a_list_that_is_not_in_the_order_of_its_requests_gives_no_order_what_another_wants(
    rig: Rig, names: bool
) -> None:
    orders = [selected() for _ in range(6)]

    def mixed_up() -> web.Response:
        bodies = [{"userPublicKey": WALLET.address, "reference": now.order.id if names else "swap"} for now in orders]
        return web.json_response({"swaps": [rig.fake._build(body) for body in bodies[::-1]]})

    rig.fake.list_reply = mixed_up
    built = await rig.executor.handle_many([(now.order, now.event) for now in orders])
    sent = [event for (event,) in built if isinstance(event, TxSubmitted)]
    assert [reference_of(event.transaction) for event in sent] == [now.order.id for now in orders]


@pytest.mark.parametrize("refusal", [{"error": "no"}, {"swapTransaction": 1}, None])
async def test_a_swap_of_a_list_that_the_venue_does_not_build_fails_no_other(rig: Rig, refusal: Any) -> None:
    orders = [selected() for _ in range(3)]
    first, last = (rig.fake._build({"userPublicKey": WALLET.address, "reference": now.order.id}) for now in orders[::2])
    rig.fake.list_reply = lambda: web.json_response({"swaps": [first, refusal, last]})
    built = await rig.executor.handle_many([(now.order, now.event) for now in orders])
    assert [type(event) for (event,) in built] == [TxSubmitted, AttemptFailed, TxSubmitted]


@pytest.mark.parametrize("venues", [("meteora",), ("raydium", "meteora")])
async def test_a_venue_that_hangs_does_not_keep_back_those_of_another(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, venues: Sequence[str]
) -> None:
    monkeypatch.setattr(handlers, "TOGETHER_S", 0.1)
    hanging = FakeChain(slot=1_000, height=900)
    hanging.gate.clear()
    quick, slow = [selected() for _ in range(3)], selected_at(*venues)
    async with (
        serve(hanging.app(), "127.0.0.1", 0, drain_s=0) as port,
        open_session() as session,
        aclosing(VenueSwaps(f"http://127.0.0.1:{port}/venue", session)) as meteora,
    ):
        rig.executor._venues = {**rig.executor._venues, "meteora": meteora}
        async with asyncio.timeout(3):
            built = await rig.executor.handle_many([(now.order, now.event) for now in [slow, *quick]])
        assert [[type(event) for event in events] for events in built] == [[], *[[TxSubmitted]] * 3]
        hanging.gate.set()
        assert intent(await submitted(rig, slow))  # by itself it is waited for


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


@pytest.mark.parametrize("odd", [{"confirmationStatus": "optimistic"}, {"slot": None}, {"slot": "x"}])
async def test_a_status_that_cannot_be_read_hides_no_others_and_proves_nothing(
    rig: Rig, odd: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "SETTLE_SECONDS_MAX", 1)
    orders = [await submitted(rig) for _ in range(5)]
    for now in orders:
        await rig.chain.send(intent(now).transaction)
    rig.fake.landed[intent(orders[2]).signature] |= odd
    together = await rig.executor.handle_many([(now.order, now.event) for now in orders])
    assert [bool(events) for events in together] == [True, True, False, True, True]
    rig.fake.expire()
    alone = await asyncio.gather(*(rig.handle(now) for now in orders))
    assert [bool(events) for events in alone] == [True, True, False, True, True]


async def test_an_answer_a_node_leaves_out_of_a_batch_takes_no_others_with_it(rig: Rig) -> None:
    orders = [await submitted(rig) for _ in range(5)]
    await rig.executor.handle_many([(now.order, now.event) for now in orders])  # known to be quick from here on
    rig.fake.leaves_out = intent(orders[2]).transaction, intent(orders[2]).signature
    together = await rig.executor.handle_many([(now.order, now.event) for now in orders])
    assert [bool(events) for events in together] == [True, True, False, True, True]
    rig.fake.leaves_out = ()
    assert isinstance(await rig.settled(orders[2]), TxConfirmed)


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


NO_LISTS = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "lists are not served"}}


@pytest.mark.parametrize("most", [1, 10])
@pytest.mark.parametrize(
    "refusal",
    [
        lambda: web.Response(status=413),
        lambda: web.json_response(NO_LISTS),
        lambda: web.json_response(NO_LISTS, status=400),
        lambda: web.json_response({"message": "not on your plan"}, status=403),
    ],
    ids=range(4),
)
async def test_a_node_that_takes_short_lists_or_none_is_asked_as_it_can_be(
    rig: Rig, most: int, refusal: Callable[[], web.Response]
) -> None:
    rig.fake.calls_per_request_max, rig.fake.too_many = most, refusal
    intents = [await submitted(rig) for _ in range(40)]
    for _ in range(2):
        rig.fake.landed.clear()
        settled = await rig.executor.handle_many([(now.order, now.event) for now in intents])
        events = [
            *(event for (event,) in filter(None, settled)),
            *await asyncio.gather(
                *(rig.settled(now) for now, events in zip(intents, settled, strict=True) if not events)
            ),
        ]
        assert [type(event) for event in events] == [TxConfirmed] * 40
    # How much it takes is found by halves, once: 81 calls at most, then 40, 20 …
    assert rig.fake.requests_refused <= 7


async def test_an_expired_transaction_is_proven_without_lists(rig: Rig) -> None:
    rig.fake.calls_per_request_max = 1
    rig.fake.drop, rig.fake.on_drop = 1, rig.fake.expire
    now = await submitted(rig)
    event = await rig.settled(now)
    assert isinstance(event, AttemptFailed)
    assert event.reason is Reason.TRANSACTION_EXPIRED


async def test_longer_lists_are_tried_again_after_a_while(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "LONGER_AGAIN_S", 0.05)
    rig.fake.calls_per_request_max = 1
    four = [Call("getSlot")] * 4
    assert await rig.rpc.together(*four) == [1_000] * 4
    rig.fake.calls_per_request_max = 1_000
    before = rig.fake.requests
    assert await rig.rpc.together(*four) == [1_000] * 4
    assert rig.fake.requests == before + 4
    await asyncio.sleep(0.1)  # beyond what it waits
    assert await rig.rpc.together(*four) == [1_000] * 4
    assert rig.fake.requests == before + 5


async def test_what_one_of_several_requests_met_is_its_own_calls_trouble(rig: Rig) -> None:
    rig.fake.calls_per_request_max = 1
    assert await rig.rpc.together(Call("getSlot"), Call("getSlot")) == [1_000] * 2
    rig.fake.away = 1
    found = await rig.rpc.gather([[Call("getSlot")] for _ in range(8)])
    assert [type(one) for one in found].count(ChainUnavailable) == 1
    assert found.count([1_000]) == 7


@pytest.mark.parametrize(
    "answer",
    [{"jsonrpc": "2.0", "id": None, "error": {"code": -32005, "message": "Node is behind"}}, {}, "what?"],
    ids=["unhealthy", "empty", "nonsense"],
)
async def test_a_node_in_other_trouble_is_not_asked_once_more_for_each_call(rig: Rig, answer: Any) -> None:
    rig.fake.calls_per_request_max, rig.fake.too_many = 1, lambda: web.json_response(answer)
    with pytest.raises(ChainUnavailable):
        await rig.rpc.together(*[Call("getSlot")] * 4)
    assert rig.fake.requests == 1


@pytest.mark.parametrize("status", [400, 404, 405, 422])
async def test_an_error_of_one_call_is_understood_whatever_http_says_of_it(rig: Rig, status: int) -> None:
    rig.fake.calls_per_request_max, rig.fake.refused_status = 1, status
    now = await submitted(rig)
    rig.fake.height += 2 * AHEAD_MAX
    rig.fake.slot += 2 * AHEAD_MAX
    rig.fake.knows_blockhash_valid = rig.fake.tells_first_block = False
    async with asyncio.timeout(20):
        event = await rig.settled(now)
    assert isinstance(event, AttemptFailed)
    assert event.reason is Reason.TRANSACTION_EXPIRED
