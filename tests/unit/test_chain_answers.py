"""What a node says that is not as agreed proves nothing: no order is taken for expired, or for settled, by it."""

from collections.abc import Sequence
from typing import Any, cast

import orjson
import pytest

from services.executor import history, rpc
from services.executor.chain import Chain, Sending
from services.executor.domain import ChainView, Look, TxStatus
from services.executor.rpc import METHOD_NOT_FOUND, Call, ChainUnavailable, Results, Rpc, RpcRefused

LANDED = {"slot": 7, "confirmationStatus": "confirmed", "err": None}
LEVELS = 1_020  # that JSON is read of, and Python does not show
DEEP = orjson.loads(b"[" * LEVELS + b"]" * LEVELS)


class Node:
    """Answers the calls of one request: with the status first where a group's order is the other one."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    async def call(self, _method: str, *_params: Any) -> Any:
        (answer,) = self._answers
        if isinstance(answer, RpcRefused):
            raise answer
        return answer

    async def together(self, *_calls: Call) -> Results:
        return self._answers

    async def gather(self, groups: Sequence[Sequence[Call]]) -> list[Results | Exception]:
        return [self._answers[:: -1 if group[0].method == "getFirstAvailableBlock" else 1] for group in groups]


def chain_of(*answers: Any) -> Chain:
    return Chain(cast("Rpc", Node(*answers)))


def statuses(*values: Any, slot: Any = 9) -> dict[str, Any]:
    return {"context": {"slot": slot}, "value": list(values)}


async def test_statuses_are_those_of_the_signatures_in_their_order() -> None:
    looks = await chain_of(statuses(None, LANDED)).look(["a", "b"])
    assert looks == [Look(9, None), Look(9, TxStatus(7, "confirmed", None))]


@pytest.mark.parametrize(
    "answer",
    [
        statuses(LANDED),
        statuses(LANDED, None, None),
        statuses(None, None, slot="x"),
        {"value": [None, None]},
        [],
        None,
        7,
    ],
)
async def test_as_many_statuses_as_were_asked_for_or_none(answer: Any) -> None:
    with pytest.raises(ChainUnavailable, match="getSignatureStatuses"):
        await chain_of(answer).look(["a", "b"])


NO_ERRORS: list[Any] = [False, 0, -5, "", "-5", [], ["AccountNotFound"], {}, {"a": 1}, "a", "Account In Use"]
NO_ERRORS += [{"": 1}, {"InstructionError": [], "x": 1}]


@pytest.mark.parametrize(
    "odd",
    [
        7,
        {},
        {"slot": "x"},
        LANDED | {"confirmationStatus": "sure"},
        *(LANDED | {"slot": slot} for slot in (True, -1, 7.0, 2**53)),
        {"slot": 7, "confirmationStatus": "confirmed"},
        *(LANDED | {"err": odd} for odd in [*NO_ERRORS, {"InstructionError": DEEP}]),
        DEEP,
    ],
)
async def test_a_status_that_cannot_be_read_is_of_before_every_height(odd: Any) -> None:
    assert await chain_of(statuses(odd, None)).look(["a", "b"]) == [Look(-1, None), Look(9, None)]


def info(slot: Any = 9, height: Any = 5) -> dict[str, Any]:
    return {"absoluteSlot": slot, "blockHeight": height}


def valid(value: Any, slot: Any = 9) -> dict[str, Any]:
    return {"context": {"slot": slot}, "value": value}


@pytest.mark.parametrize(
    "told",
    [*(info(slot=odd) for odd in (None, "9", 9.0, True)), info(height=None), {}, DEEP, RpcRefused(-1, "no")],
)
async def test_a_view_without_its_numbers_is_none(told: Any) -> None:
    with pytest.raises(ChainUnavailable, match="getEpochInfo"):
        await chain_of(told, valid(True)).view("hash")


@pytest.mark.parametrize("told", [None, {}, DEEP, valid("yes"), valid(False, slot="x"), RpcRefused(-32_000, "busy")])
async def test_whether_a_blockhash_holds_is_said_in_so_many_words_or_not_at_all(told: Any) -> None:
    with pytest.raises(ChainUnavailable, match="isBlockhashValid"):
        await chain_of(info(), told).view("hash")


async def test_a_node_that_is_behind_may_not_know_a_blockhash_that_holds() -> None:
    with pytest.raises(ChainUnavailable, match="isBlockhashValid, at slot 9"):
        await chain_of(info(), valid(False, slot=8)).view("hash")
    assert await chain_of(info(), valid(True, slot=8)).view("hash") == ChainView(9, 5, True)
    assert await chain_of(info(), valid(False, slot=10)).view("hash") == ChainView(9, 5, False)


async def test_only_a_node_that_does_not_know_the_question_is_judged_by_height() -> None:
    unknown = RpcRefused(METHOD_NOT_FOUND, "no such method")
    assert await chain_of(info(), unknown).view("hash") == ChainView(9, 5, None)
    assert await chain_of(info(), valid(False)).view("hash") == ChainView(9, 5, False)


@pytest.mark.parametrize("first", [None, "x", DEEP, RpcRefused(0, "no")])
async def test_where_a_nodes_blocks_begin_is_said_in_a_number_or_proves_nothing(
    first: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SLOWLY_AFTER_S", 0)
    monkeypatch.setattr(history, "SLOWLY_EVERY_S", 0)
    with pytest.raises(ChainUnavailable, match="getFirstAvailableBlock"):
        await chain_of(statuses(None), first).look_back("a", 5)


@pytest.mark.parametrize("told", [None, 7, {}, DEEP, RpcRefused(0, "no")])
async def test_which_chain_it_is_is_said_in_a_text_or_proves_nothing(told: Any) -> None:
    with pytest.raises(ChainUnavailable, match="getGenesisHash"):
        await chain_of(told).check_is_of("one")


def test_an_answer_that_cannot_be_shown_is_its_own_calls_trouble() -> None:
    said = [{"id": 0, "error": {"code": -1, "message": DEEP}}, {"id": 1, "result": 7}]
    refused, height = rpc._by_id(said, 2)
    assert isinstance(refused, RpcRefused)
    assert height == 7
    with pytest.raises(ChainUnavailable, match="not JSON-RPC"):
        rpc._by_id([DEEP], 1)


@pytest.mark.parametrize("height", [None, "x", {}, RpcRefused(-1, "no")])
async def test_what_is_no_height_is_none(height: Any) -> None:
    with pytest.raises(ChainUnavailable, match="getBlockHeight"):
        await chain_of(height).height()


async def test_what_a_node_says_of_two_it_was_sent_is_told_of_each() -> None:
    refused = RpcRefused(-32_002, "blockhash not found")
    meta = {"fee": 5_000}
    chain = chain_of("sig", refused, statuses(LANDED, None), {"meta": meta}, None)
    landed = Look(9, TxStatus(7, "confirmed", None))
    wanted = [Sending(True, landed, meta), Sending(refused, Look(9, None), None)]
    assert await chain.send_and_look([("bytes-a", "a"), ("bytes-b", "b")]) == wanted


FAILED = {"err": {"InstructionError": [0, {"Custom": 6001}]}}


@pytest.mark.parametrize(
    ("shown", "is_taken"),
    [
        ({"meta": {"fee": 5_000}}, True),
        ({"meta": {"fee": 5_000, "err": None}, "transaction": {"signatures": ["a"]}}, True),
        ({"meta": {"fee": 5_000, "err": None}, "transaction": {"signatures": ["b"]}}, False),
        ({"meta": {"fee": 5_000, "err": None}, "transaction": {"signatures": []}}, False),
        ({"meta": {"fee": 5_000, "err": None}, "transaction": 7}, False),
        ({"meta": FAILED, "transaction": {"signatures": ["a"]}}, False),
        ({"meta": None}, False),
        ({"meta": DEEP}, False),
        ([], False),
        (RpcRefused(0, "no"), False),
    ],
)
async def test_what_came_out_is_read_from_no_other_transaction_and_from_none_that_failed(
    shown: Any, is_taken: bool
) -> None:
    alone = [] if isinstance(shown, RpcRefused) else [await chain_of(shown).balances("a")]
    (among,) = await chain_of(shown).balances_many(["a"])
    (sent,) = await chain_of("a", statuses(LANDED), shown).send_and_look([("bytes", "a")])
    assert {meta is not None for meta in (*alone, among, sent.meta)} == {is_taken}


@pytest.mark.parametrize("odd", [statuses(LANDED), RpcRefused(-1, "no"), None])
async def test_what_was_sent_and_cannot_be_looked_at_may_have_landed(odd: Any) -> None:
    sendings = await chain_of("sig", "sig", odd).send_and_look([("bytes-a", "a"), ("bytes-b", "b")])
    assert sendings == [Sending(True, None, None)] * 2
