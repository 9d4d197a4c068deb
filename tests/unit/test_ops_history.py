"""What `swaplog` tells of the past, decided without a socket: from the log and the archive, merged, chosen, whole."""

from typing import cast

import pytest

from libs.events.errors import PositionGap
from libs.events.log import Entry
from libs.events.memory_log import MemoryLog
from services.ops.history import Selection, past, tips
from services.ops.output import Output, print_past
from services.ops.stack import Stack, StartableLog
from tests.journeys import JOURNEY, journey
from tests.unit.ops_rig import Archive, Clock, TrimmedLog, as_store, everything


async def chosen(log: MemoryLog, store: Archive | None, selection: Selection) -> list[Entry]:
    ends = await tips(log, range(log.partitions))
    return [entry async for entry in past(log, as_store(store) if store else None, ends, selection)]


async def test_partitions_are_merged_by_time() -> None:
    log = MemoryLog(4, Clock())
    for number in range(20):
        await journey(log, f"user-{number}", JOURNEY[: number % 4])
    entries = await chosen(log, None, Selection())

    assert len(entries) == len(await everything(log))
    assert len({entry.partition for entry in entries}) > 1
    assert [entry.at.ms for entry in entries] == sorted(entry.at.ms for entry in entries)


async def test_what_the_log_let_go_comes_from_the_archive_once() -> None:
    log = TrimmedLog(2, Clock())
    for number in range(100):
        await journey(log, f"user-{number}")
    whole = sorted(await everything(log), key=lambda entry: entry.at.ms)
    log.first = 150

    assert await chosen(log, Archive(whole), Selection()) == whole
    assert await chosen(log, Archive(whole[:-20]), Selection()) == whole


@pytest.mark.parametrize("first", [1, 300], ids=["whole log", "trimmed"])
@pytest.mark.parametrize("since_ms", [0, 1_500])
async def test_what_is_trimmed_while_it_is_read_comes_from_the_archive(first: int, since_ms: int) -> None:
    log = TrimmedLog(1, Clock())
    for number in range(100):
        await journey(log, f"user-{number}")
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
        await journey(log, f"user-{number}")
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
        await journey(log, f"user-{number}")
    whole = sorted(await everything(log), key=lambda entry: entry.at.ms)
    log.first = first
    archive = Archive(whole)
    until_ms = since_ms + 1_000

    expected = [entry for entry in whole if since_ms <= entry.at.ms < until_ms]
    assert await chosen(log, archive, Selection(since_ms=since_ms, until_ms=until_ms)) == expected


async def test_users_types_and_orders_can_be_chosen() -> None:
    log = MemoryLog(4)
    one = await journey(log, "alice")
    await journey(log, "bob")

    assert len(await chosen(log, None, Selection(user="alice"))) == 7
    assert len(await chosen(log, None, Selection(types=frozenset({"RoutingStarted", "TxConfirmed"})))) == 6
    assert len(await chosen(log, None, Selection(order_id=one.order.id, types=frozenset({"TxConfirmed"})))) == 1


async def test_a_hole_in_the_archive_is_not_passed_over() -> None:
    log = TrimmedLog(1, Clock())
    await journey(log)
    whole = await everything(log)
    log.first = 7
    with pytest.raises(PositionGap, match="expected position 3, found 4"):
        await chosen(log, Archive([*whole[:2], *whole[3:]]), Selection())


@pytest.mark.parametrize("since_ms", [0, 1_015, 1_055])
async def test_an_archive_whose_oldest_leaf_was_let_go_begins_later(since_ms: int) -> None:
    log = TrimmedLog(1, Clock())
    await journey(log)
    whole = await everything(log)
    log.first = 7
    told = await chosen(log, Archive(whole[3:]), Selection(since_ms=since_ms))
    assert told == [entry for entry in whole[3:] if entry.at.ms >= since_ms]


@pytest.mark.parametrize(("since_ms", "said"), [(0, True), (1_100, False)])
async def test_what_an_archive_has_let_go_is_not_passed_over_unsaid(
    since_ms: int, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    log = TrimmedLog(1, Clock())
    await journey(log)
    whole = await everything(log)
    log.first = 7
    stack = Stack(cast("StartableLog", log), as_store(Archive(whole[3:])))
    output = Output(stack, as_json=True, one_order=False)
    await print_past(stack, await tips(log, [0]), Selection(since_ms=since_ms), output)
    told = f"partition 0: what was before {whole[3].fields['time']} was let go\n"
    assert capsys.readouterr().err == (told if said else "")


async def test_what_neither_store_has_is_a_hole() -> None:
    log = TrimmedLog(1, Clock())
    await journey(log)
    whole = await everything(log)
    log.first = 7
    for since_ms in (0, 1_025):
        with pytest.raises(PositionGap, match="expected position 5, found 7"):
            await chosen(log, Archive(whole[:4]), Selection(since_ms=since_ms))


async def test_a_lagging_archive_is_no_hole_while_the_log_has_the_entries() -> None:
    log = TrimmedLog(1, Clock())
    await journey(log)
    whole = await everything(log)
    assert await chosen(log, Archive(whole[:2]), Selection(since_ms=whole[4].at.ms)) == whole[4:]
