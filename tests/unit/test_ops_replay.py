"""How `swaplog` retells an order, decided without a socket: its states, its problems, its words."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from libs.events.ids import Position
from libs.events.log import Entry, Snapshot
from libs.events.memory_log import MemoryLog
from libs.events.model import EVENT_TYPES
from services.ops.replay import ARCHIVE, LOG, replay
from services.ops.show import Describer, describe, event_line, replay_json, replay_table
from services.ops.stack import Stack
from tests.builders import a_request, routing_started, then
from tests.journeys import journey
from tests.unit.ops_rig import Archive, Clock, TrimmedLog, as_store, everything

# Replay


async def test_a_replay_tells_the_state_after_each_event_and_where_it_is_kept() -> None:
    log = TrimmedLog(1, Clock())
    order = (await journey(log)).order
    archive = Archive((await everything(log))[:5])
    log.first = 3
    story = await replay(Stack(log, as_store(archive)), order.id)

    assert not story.problems
    assert [(step.entry.fields["type"], step.stores) for step in story.steps] == [
        ("OrderRequested", (ARCHIVE,)),
        ("RoutingStarted", (ARCHIVE,)),
        ("AttemptFailed", (LOG, ARCHIVE)),
        ("RoutingStarted", (LOG, ARCHIVE)),
        ("RouteSelected", (LOG, ARCHIVE)),
        ("TxSubmitted", (LOG,)),
        ("TxConfirmed", (LOG,)),
    ]
    states = [(step.order.status.value, step.order.attempt) for step in story.steps if step.order]
    assert states == [
        ("PENDING", 0),
        ("ROUTING", 1),
        ("RETRYING", 1),
        ("ROUTING", 2),
        ("BUILDING", 2),
        ("SUBMITTED", 2),
        ("CONFIRMED", 2),
    ]
    assert story.steps[-1].changed["amountOut"] == (None, "1499")
    assert story.steps[-1].order == order


async def test_an_order_that_was_let_go_is_compared_with_the_log_all_the_same() -> None:
    log = TrimmedLog(1, Clock())
    order = (await journey(log)).order
    archive = Archive(await everything(log))
    archive.kept[2] = replace(archive.kept[2], at=Position(1, 3))
    await log.retire([order.id])
    story = await replay(Stack(log, as_store(archive)), order.id)

    assert {step.stores for step in story.steps} == {(LOG, ARCHIVE)}
    assert [problem.partition(" is")[0] for problem in story.problems] == ["version 3"]


async def test_a_missing_event_is_named_and_nothing_is_made_up_after_it() -> None:
    log = TrimmedLog(1, Clock())
    order = (await journey(log)).order
    log.first = 6
    story = await replay(Stack(log, as_store(Archive((await everything(log))[:2]))), order.id)

    assert story.problems == ["versions 3 to 5 are neither in the log nor in the archive"]
    assert [step.order is None for step in story.steps] == [False, False, True, True]
    assert "versions 3 to 5 are neither" in shown(replay_table(story))


async def test_stores_that_tell_different_stories_are_a_problem() -> None:
    log = MemoryLog(1)
    order = (await journey(log)).order
    entries = await everything(log)
    forged = Entry(0, entries[3].at, {**entries[3].fields, "source": "somebody"})
    story = await replay(Stack(log, as_store(Archive([*entries[:3], forged, *entries[4:]]))), order.id)
    assert [problem.split(" (")[0] for problem in story.problems] == ["version 4 is not the same in the log"]

    archive = Archive(entries)
    archive.order = order.model_copy(update={"slot": 8})
    story = await replay(Stack(log, as_store(archive)), order.id)
    assert story.problems == ["the order's row in Postgres is not what its events fold to"]


async def test_a_projection_that_is_behind_is_no_problem() -> None:
    log = MemoryLog(1)
    before = await journey(log, bodies=())
    archive = Archive(await everything(log))
    archive.order = before.order
    step, _ = then(before, routing_started())
    await log.commit(step)

    assert not (await replay(Stack(log, as_store(archive)), before.order.id)).problems


class UnreadableLog(MemoryLog):
    """A log whose orders are not what this release can read."""

    async def find(self, order_id: str) -> Snapshot | None:
        raise ValueError("field 'user' is missing")


async def test_a_state_that_cannot_be_read_is_a_problem_of_its_order() -> None:
    log = UnreadableLog(1)
    order = (await journey(log)).order
    stack = Stack(log, as_store(Archive(await everything(log))))
    story = await replay(stack, order.id)

    assert story.problems == ["the order's hash in Redis cannot be read: field 'user' is missing"]
    assert [step.order is None for step in story.steps] == [False] * 7
    last = (await everything(log))[-1]
    assert await Describer(stack.find).body(last) is None


# How it looks


def shown(what: object, width: int = 200) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(what)
        return console.export_text()


async def test_every_event_is_one_line_in_clients_words() -> None:
    log = MemoryLog(1)
    order = (await journey(log)).order
    describer = Describer(Stack(log, None).find)
    shapes = {"order_known": False, "short": False}
    lines = [event_line(entry, await describer.body(entry), **shapes).plain for entry in await everything(log)]

    assert all(order.id in line for line in lines)
    assert "10 SOL for USDC, slippage 50 bps" in lines[0]
    assert "raydium quotes 1500, at least 1492.5; meteora lost: 0.1 % less" in lines[4]
    assert "1499 in slot 7, +0 ppm against the quote" in lines[6]


async def test_an_order_of_a_token_that_only_another_release_knows_is_replayed_all_the_same() -> None:
    log = MemoryLog(1)
    step, snapshot = a_request(1, mint_in="mint of WIF", token_in="WIF")
    await log.commit(step)
    story = await replay(Stack(log, None), snapshot.order.id)
    assert "? WIF for USDC, slippage 50 bps" in shown(replay_table(story))


def test_a_request_says_below_what_it_may_not_settle() -> None:
    asked = {"amount": "1", "tokenIn": "SOL", "tokenOut": "USDC", "slippageBps": 50, "minAmountOut": "400"}
    told = "1 SOL for USDC, slippage 50 bps"
    assert describe({"type": "OrderRequested", "data": asked}) == f"{told}, at least 400"
    limit = asked | {"limitPrice": "400"}
    assert describe({"type": "OrderRequested", "data": limit}) == f"{told}, at 400 or better"


async def test_what_a_node_said_gives_no_orders_to_a_terminal() -> None:
    failure = {"stage": "execution", "code": "transaction_rejected", "detail": "no\x1b]0;mine\x07"}
    body = {"type": "OrderFailed", "status": "FAILED", "data": {"attempt": 1, "failure": failure}}
    line = event_line(Entry(0, Position(1, 1), {"type": "OrderFailed"}), body, order_known=True, short=False)
    assert line.plain.endswith(r"transaction_rejected (no\x1b]0;mine\x07)")


def test_of_a_split_order_the_shares_are_told() -> None:
    legs = [{"venue": "meteora", "shareBps": 7_000}, {"venue": "orca", "shareBps": 3_000}]
    route = {"legs": legs, "quotedAmountOut": "1500", "minAmountOut": "1492.5"}
    told = describe({"type": "RouteSelected", "data": {"route": route, "candidates": []}})
    assert told == "70 % meteora + 30 % orca quotes 1500, at least 1492.5"


def test_an_order_that_waits_for_its_price_says_for_what_and_until_when() -> None:
    data = {"attempt": 1, "wantedAmountOut": "2000", "bestAmountOut": "1500", "until": "2026-01-02T03:04:05.000Z"}
    known = describe({"type": "OrderOpened", "data": data})
    assert known == "waits for 2000, the best quote is 1500, until 2026-01-02T03:04:05.000Z"
    assert "nobody quotes" in describe({"type": "OrderOpened", "data": data | {"bestAmountOut": None}})


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_no_event_of_ours_is_left_without_words(name: str) -> None:
    with pytest.raises(KeyError):  # its case looks into its body
        describe({"type": name, "data": {}})


async def test_json_of_a_replay_never_holds_the_signed_transaction_but_in_its_event() -> None:
    log = MemoryLog(1)
    order = (await journey(log)).order
    story = await replay(Stack(log, None), order.id)
    documents = [replay_json(step, log.epoch) for step in story.steps]

    assert [document["version"] for document in documents] == [str(number) for number in range(1, 8)]
    assert documents[-1]["order"]["status"] == "CONFIRMED"
    assert "transaction" not in documents[-1]["order"]
    json.dumps(documents)


def test_an_event_of_a_newer_release_is_a_line_too() -> None:
    assert describe({"type": "OrderTeleported", "data": {}}) == ""


async def test_an_entry_that_is_no_event_is_still_shown() -> None:
    entry = Entry(0, Position(1, 1), {"type": "TxConfirmed", "data": "{", "subject": "x", "version": "1"})
    assert await Describer(Stack(MemoryLog(1), None).find).body(entry) is None
    assert "cannot be shown" in event_line(entry, None, order_known=False, short=False).plain
