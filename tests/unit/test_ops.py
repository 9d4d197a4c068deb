"""What `swaplog` shows, decided without a socket: times, merging, the retelling of an order, finding the stack."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from rich.console import Console

from libs.events.errors import PositionGap, Trimmed
from libs.events.ids import Position
from libs.events.log import Committed, Entry, Snapshot
from libs.events.memory_log import MemoryLog
from libs.events.model import EVENT_TYPES, Event
from libs.events.order import Order
from libs.orders.store import OrderStore
from services.ops.history import Selection, past, tips
from services.ops.replay import ARCHIVE, LOG, replay
from services.ops.show import Describer, describe, event_line, replay_json, replay_table
from services.ops.stack import Stack
from tests.builders import a_request, attempt_failed, route_selected, routing_started, then, tx_confirmed, tx_submitted

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STORY: tuple[Event, ...] = (
    routing_started(),
    attempt_failed(),
    routing_started(2),
    route_selected(2),
    tx_submitted(2),
    tx_confirmed(2),
)


class Clock:
    """Goes on by ten milliseconds with every look."""

    def __init__(self) -> None:
        self.ms = 1_000

    def __call__(self) -> int:
        self.ms += 10
        return self.ms


class TrimmedLog(MemoryLog):
    """A log whose beginning is gone."""

    def __init__(self, partitions: int, clock: Clock) -> None:
        super().__init__(partitions, clock)
        self.first = 1

    def _entries(self, after: Any, count: int) -> list[Entry]:
        found: list[Entry] = []
        for partition, at in after.items():
            kept = [e for e in self._parts[partition].entries if e.at.position >= self.first and e.at > at][:count]
            if kept and kept[0].at.position != at.position + 1:
                raise Trimmed(partition, at.position + 1, kept[0].at.position)
            found += kept
        return found

    async def history(self, order_id: str) -> list[Entry]:
        return [entry for entry in await super().history(order_id) if entry.at.position >= self.first]


class Archive:
    """What a store knows, from entries alone."""

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self.kept = list(entries)
        self.order: Order | None = None
        self.asked = 0

    async def archived(self, partition: int, after: int, count: int) -> list[Entry]:
        self.asked += 1
        return [e for e in self.kept if e.partition == partition and e.at.position > after][:count]

    async def entries(self, order_id: str) -> list[Entry]:
        return [entry for entry in self.kept if entry.fields["subject"] == order_id]

    async def get(self, order_id: str) -> Order | None:
        return self.order


def as_store(archive: Archive) -> OrderStore:
    return cast("OrderStore", archive)


async def told(log: MemoryLog, *bodies: Event, user: str = "user-1") -> Snapshot:
    step, now = a_request(log.partitions, user)
    assert isinstance(await log.commit(step), Committed)
    for body in bodies:
        step, now = then(now, body)
        assert isinstance(await log.commit(step), Committed)
    return now


async def everything(log: MemoryLog) -> list[Entry]:
    return [entry for part in log._parts for entry in part.entries]


async def chosen(log: MemoryLog, store: Archive | None, selection: Selection) -> list[Entry]:
    ends = await tips(log, range(log.partitions))
    return [entry async for entry in past(log, as_store(store) if store else None, ends, selection)]


# History


async def test_partitions_are_merged_by_time() -> None:
    log = MemoryLog(4, Clock())
    for number in range(20):
        await told(log, *STORY[: number % 4], user=f"user-{number}")
    entries = await chosen(log, None, Selection())

    assert len(entries) == len(await everything(log))
    assert len({entry.partition for entry in entries}) > 1
    assert [entry.at.ms for entry in entries] == sorted(entry.at.ms for entry in entries)


async def test_what_the_log_let_go_comes_from_the_archive_once() -> None:
    log = TrimmedLog(2, Clock())
    for number in range(100):
        await told(log, *STORY, user=f"user-{number}")
    whole = sorted(await everything(log), key=lambda entry: entry.at.ms)
    log.first = 150

    assert await chosen(log, Archive(whole), Selection()) == whole
    assert await chosen(log, Archive(whole[:-20]), Selection()) == whole


@pytest.mark.parametrize("first", [1, 300], ids=["whole log", "trimmed"])
@pytest.mark.parametrize("since_ms", [0, 1_500])
async def test_what_is_trimmed_while_it_is_read_comes_from_the_archive(first: int, since_ms: int) -> None:
    log = TrimmedLog(1, Clock())
    for number in range(100):
        await told(log, *STORY, user=f"user-{number}")
    whole = await everything(log)
    log.first = first
    read = past(log, as_store(Archive(whole)), await tips(log, [0]), Selection(since_ms=since_ms))
    found = [await anext(read)]
    log.first = 600
    found += [entry async for entry in read]

    assert found == [entry for entry in whole if entry.at.ms >= since_ms]


async def test_nothing_is_read_after_the_time_asked_for() -> None:
    log = TrimmedLog(1, Clock())
    for number in range(1_000):
        await told(log, *STORY, user=f"user-{number}")
    whole = await everything(log)
    archive = Archive(whole)
    log.first = 7_000

    found = await chosen(log, archive, Selection(until_ms=1_100))
    assert found == [entry for entry in whole if entry.at.ms < 1_100]
    assert archive.asked == 1


@pytest.mark.parametrize("first", [1, 40, 200, 10_000], ids=["whole log", "trimmed", "mostly trimmed", "all trimmed"])
@pytest.mark.parametrize("since_ms", [0, 1_005, 1_500, 2_500, 9_999_999])
async def test_a_time_selects_the_same_wherever_the_entries_are(first: int, since_ms: int) -> None:
    log = TrimmedLog(2, Clock())
    for number in range(50):
        await told(log, *STORY, user=f"user-{number}")
    whole = sorted(await everything(log), key=lambda entry: entry.at.ms)
    log.first = first
    archive = Archive(whole)
    until_ms = since_ms + 1_000

    expected = [entry for entry in whole if since_ms <= entry.at.ms < until_ms]
    assert await chosen(log, archive, Selection(since_ms=since_ms, until_ms=until_ms)) == expected


async def test_users_types_and_orders_can_be_chosen() -> None:
    log = MemoryLog(4)
    one = await told(log, *STORY, user="alice")
    await told(log, *STORY, user="bob")

    assert len(await chosen(log, None, Selection(user="alice"))) == 7
    assert len(await chosen(log, None, Selection(types=frozenset({"RoutingStarted", "TxConfirmed"})))) == 6
    assert len(await chosen(log, None, Selection(order_id=one.order.id, types=frozenset({"TxConfirmed"})))) == 1


async def test_a_hole_in_the_archive_is_not_passed_over() -> None:
    log = TrimmedLog(1, Clock())
    await told(log, *STORY)
    whole = await everything(log)
    log.first = 7
    with pytest.raises(PositionGap, match="expected position 3, found 4"):
        await chosen(log, Archive([*whole[:2], *whole[3:]]), Selection())


async def test_what_neither_store_has_is_a_hole() -> None:
    log = TrimmedLog(1, Clock())
    await told(log, *STORY)
    whole = await everything(log)
    log.first = 7
    for since_ms in (0, 1_025):
        with pytest.raises(PositionGap, match="expected position 5, found 7"):
            await chosen(log, Archive(whole[:4]), Selection(since_ms=since_ms))


async def test_a_lagging_archive_is_no_hole_while_the_log_has_the_entries() -> None:
    log = TrimmedLog(1, Clock())
    await told(log, *STORY)
    whole = await everything(log)
    assert await chosen(log, Archive(whole[:2]), Selection(since_ms=whole[4].at.ms)) == whole[4:]


# Replay


async def test_a_replay_tells_the_state_after_each_event_and_where_it_is_kept() -> None:
    log = TrimmedLog(1, Clock())
    order = (await told(log, *STORY)).order
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


async def test_a_missing_event_is_named_and_nothing_is_made_up_after_it() -> None:
    log = TrimmedLog(1, Clock())
    order = (await told(log, *STORY)).order
    log.first = 6
    story = await replay(Stack(log, as_store(Archive((await everything(log))[:2]))), order.id)

    assert story.problems == ["versions 3 to 5 are neither in the log nor in the archive"]
    assert [step.order is None for step in story.steps] == [False, False, True, True]
    assert "versions 3 to 5 are neither" in shown(replay_table(story))


async def test_stores_that_tell_different_stories_are_a_problem() -> None:
    log = MemoryLog(1)
    order = (await told(log, *STORY)).order
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
    before = await told(log)
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
    order = (await told(log, *STORY)).order
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
    order = (await told(log, *STORY)).order
    describer = Describer(Stack(log, None).find)
    shapes = {"order_known": False, "short": False}
    lines = [event_line(entry, await describer.body(entry), **shapes).plain for entry in await everything(log)]

    assert all(order.id in line for line in lines)
    assert "10 SOL for USDC, slippage 50 bps" in lines[0]
    assert "raydium quotes 1500, at least 1492.5; meteora lost: 0.1 % less" in lines[4]
    assert "1499 in slot 7, +0 ppm against the quote" in lines[6]


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
    order = (await told(log, *STORY)).order
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
