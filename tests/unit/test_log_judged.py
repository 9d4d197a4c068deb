"""Whether a log is whole is told by positions alone; whether it is the archive's, by one entry that both must have."""

from dataclasses import replace
from typing import Any

import pytest

from libs.events.errors import LogMismatch
from libs.events.ids import START, Position
from libs.events.log import Entry
from libs.events.repair import Held, layout_of
from libs.orders.store import Checkpoint
from services.projector.verdict import (
    Diverged,
    Unreachable,
    check_layout,
    check_reach,
    compare,
    judge,
    place_to_compare,
)

LAYOUT = layout_of(1)


def held(first: int = 1, last: int = 9, **changes: Any) -> Held:
    length = last - first + 1 if last else 0
    ends = (Position(1_000 + first, first), Position(1_000 + last, last)) if last else (START, START)
    whole = Held(0, "e1", LAYOUT, "run 1", "run 1", last, 1_000 + last, *ends, 0, length)
    return replace(whole, **changes)


def archived(position: int, epoch: str = "e1") -> Checkpoint:
    return Checkpoint(epoch, Position(1_000 + position, position))


@pytest.mark.parametrize(
    ("log", "checkpoint", "seen"),
    [
        (held(), archived(9), {}),
        (held(), archived(5), {}),
        (held(first=4), archived(5), {}),
        (held(), None, {}),
        (held(last=0), None, {"restarted": True, "keeps_all": False}),
        (held(farthest_reader=9), archived(9), {"restarted": True}),
        (held(farthest_reader=12), archived(9), {"restarted": False}),  # it has not noticed a repair
        (held(), archived(9), {"restarted": False, "keeps_all": False}),
    ],
)
def test_a_log_that_is_whole_is_left_as_it_is(log: Held, checkpoint: Checkpoint | None, seen: dict[str, bool]) -> None:
    verdict = judge(log, checkpoint, **seen)
    assert (verdict.lost, verdict.alarm) == ((), False)


@pytest.mark.parametrize(
    ("log", "checkpoint", "seen", "reason"),
    [
        (held(last=0, position=-1), None, {}, "there is no log"),
        (held(), archived(9, "e2"), {}, "it has another epoch than the archive"),
        (held(), archived(10), {}, "it ends at position 9, and the archive at 10"),
        (held(position=10), archived(9), {}, "it ends at position 9, and should at 10"),
        (held(position=8), archived(9), {}, "it ends at position 9, and should at 8"),
        (held(length=8), archived(9), {}, "its positions 1 to 9 have 8 entries"),
        (held(), archived(9), {"outdated": True}, "an earlier release kept its orders"),
        (held(farthest_reader=10), archived(9), {"restarted": True}, "a reader was at position 10"),
        (
            held(last=1),
            archived(1),
            {"restarted": True, "keeps_all": False},
            "it restarted, and may have lost what nobody else has",
        ),
    ],
)
def test_each_loss_is_seen_by_itself(
    log: Held, checkpoint: Checkpoint | None, seen: dict[str, bool], reason: str
) -> None:
    assert judge(log, checkpoint, **seen).lost == (reason,)


def test_work_was_missed_where_the_fence_is_down() -> None:
    verdict = judge(held(run=""), archived(9))
    assert (verdict.lost, verdict.alarm) == ((), True)


@pytest.mark.parametrize(
    ("log", "checkpoint", "place"),
    [
        (held(), archived(5), 5),
        (held(first=5), archived(5), 5),
        (held(first=6), archived(5), None),
        (held(), archived(9), 9),
        (held(), archived(12), 9),
        (held(last=0), archived(5), None),
        (held(), archived(0), None),
    ],
)
def test_they_are_compared_where_both_have_an_entry(log: Held, checkpoint: Checkpoint, place: int | None) -> None:
    at = place_to_compare(log, checkpoint)
    assert (at and at.position) == place


def test_only_the_same_entry_at_the_same_place_is_one_story() -> None:
    one = Entry(0, Position(1_005, 5), {"id": "a/1"})
    compare(one.at, one, Entry(0, one.at, {"id": "a/1"}))
    for logged, kept in (
        (one, Entry(0, one.at, {"id": "b/1"})),
        (one, Entry(0, Position(1_006, 5), {"id": "a/1"})),
        (one, None),
        (None, one),
        (None, None),
    ):
        with pytest.raises(Diverged):
            compare(one.at, logged, kept)


@pytest.mark.parametrize(("first", "position"), [(1, 0), (1, 5), (6, 5), (20, 29)])
def test_the_archive_goes_on_where_the_log_still_has_what_follows(first: int, position: int) -> None:
    check_reach(held(first=first, last=29), archived(position))


@pytest.mark.parametrize(("first", "checkpoint"), [(7, archived(5)), (2, None)])
def test_what_is_in_neither_is_told(first: int, checkpoint: Checkpoint | None) -> None:
    with pytest.raises(Unreachable):
        check_reach(held(first=first, last=29), checkpoint)


@pytest.mark.parametrize(
    ("layout", "checkpoints"), [(layout_of(2), {}), ("of tomorrow", {}), (LAYOUT, {0: archived(1), 1: archived(1)})]
)
def test_another_number_of_partitions_is_refused(layout: str, checkpoints: dict[int, Checkpoint]) -> None:
    check_layout([held()], {0: archived(9)})
    check_layout([held(layout="")], {})
    with pytest.raises(LogMismatch, match="set PARTITIONS to match"):
        check_layout([held(layout=layout)], checkpoints)
