"""The judge notices every promise that was broken: a sound run, spoiled in one way each."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from libs.events.ids import Position
from libs.events.log import Entry, Snapshot
from libs.events.memory_log import MemoryLog
from tests.builders import a_request, route_selected, routing_started, then, tx_confirmed, tx_submitted
from tests.verdict import PROMISES, Evidence, Transcript, judge, kept, shown

BODIES = (routing_started(), route_selected(), tx_submitted(), tx_confirmed())


def told(entry: Entry) -> dict[str, object]:
    fields = entry.fields
    return {"type": fields["type"], "orderId": fields["subject"], "version": int(fields["version"])}


async def sound() -> Evidence:
    """Two orders of one user, confirmed, projected, shown to a socket."""
    log, ended = MemoryLog(1), list[Snapshot]()
    for number in range(2):
        step, now = a_request(1, idempotency_key=f"key-{number}")
        await log.commit(step)
        for body in BODIES:
            step, now = then(now, body)
            await log.commit(step)
        ended.append(now)
    entries = await log.read({0: Position(0, 0)}, 100, 0)
    transcript: Transcript = [
        {"type": "snapshot", "cursor": "0:0:0-0", "orders": []},
        {"type": "heartbeat", "cursor": "0:0:0-0"},
        *map(told, entries),
    ]
    return Evidence(
        entries=entries,
        promised={f"key-{number}": now.order.id for number, now in enumerate(ended)},
        settled={now.order.id: ["sig-1"] for now in ended},
        projected={now.order.id: now.order for now in ended},
        archived=entries,
        transcripts=[transcript],
    )


def entries_changed(change: Callable[[list[Entry]], list[Entry]]) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, entries=change(list(evidence.entries)))


def renumbered(entries: list[Entry]) -> list[Entry]:
    """As a log that was written this way would hold them."""
    return [Entry(0, Position(entry.at.ms, number), entry.fields) for number, entry in enumerate(entries, start=1)]


def last_of_first_order(entries: list[Entry]) -> int:
    return max(n for n, entry in enumerate(entries) if entry.fields["subject"] == entries[0].fields["subject"])


def without_its_end(entries: list[Entry]) -> list[Entry]:
    entries.pop(last_of_first_order(entries))
    return renumbered(entries)


def ended_again(entries: list[Entry]) -> list[Entry]:
    last = entries[last_of_first_order(entries)]
    version = int(last.fields["version"]) + 1
    again = {**last.fields, "version": str(version), "id": f"{last.fields['subject']}/{version}"}
    return renumbered([*entries, Entry(0, last.at, again)])


def one_key_for_both(entries: list[Entry]) -> list[Entry]:
    fields = dict(entries[0].fields)
    first = {**fields, "data": fields["data"].replace("key-0", "key-1")}
    return [Entry(0, entries[0].at, first), *entries[1:]]


SPOILED: dict[str, Callable[[Evidence], Evidence]] = {
    "lost": lambda evidence: replace(evidence, promised={**evidence.promised, "key-9": "an order nobody knows"}),
    "duplicated": entries_changed(lambda entries: renumbered([*entries, entries[-1]])),
    "reordered": entries_changed(lambda entries: renumbered([entries[0], entries[2], entries[1], *entries[3:]])),
    "stuck": entries_changed(without_its_end),
    "ended twice": entries_changed(ended_again),
    "version holes": entries_changed(lambda entries: renumbered([entries[0], *entries[2:]])),
    "position holes": entries_changed(lambda entries: [*entries[:3], *entries[4:]]),
    "two settlements": lambda evidence: replace(
        evidence, settled={order: [*found, "sig-2"] for order, found in (evidence.settled or {}).items()}
    ),
    "projection ≠ fold": lambda evidence: replace(
        evidence,
        projected={name: order.model_copy(update={"slot": 99}) for name, order in (evidence.projected or {}).items()},
    ),
    "socket view ≠ log": lambda evidence: replace(
        evidence, transcripts=[[said for n, said in enumerate(each) if n != 3] for each in evidence.transcripts]
    ),
}


async def test_a_sound_run_is_sound() -> None:
    assert kept(judge(await sound())), judge(await sound())


def test_every_promise_has_a_way_to_be_broken() -> None:
    assert SPOILED.keys() == PROMISES.keys()


@pytest.mark.parametrize("promise", list(SPOILED))
async def test_a_broken_promise_is_noticed(promise: str) -> None:
    assert judge(SPOILED[promise](await sound()))[promise]


@pytest.mark.parametrize(
    ("promise", "spoil"),
    [
        ("duplicated", entries_changed(one_key_for_both)),
        ("duplicated", lambda evidence: replace(evidence, contradictions=["key: two orders"])),
        ("two settlements", lambda evidence: replace(evidence, settled={})),
        ("projection ≠ fold", lambda evidence: replace(evidence, archived=evidence.entries[:-1])),
        ("projection ≠ fold", lambda evidence: replace(evidence, projected={})),
        ("socket view ≠ log", lambda e: replace(e, transcripts=[[*e.transcripts[0], e.transcripts[0][-1]]])),
    ],
    ids=["one key", "two answers", "no settlement", "archive", "rows", "told twice"],
)
async def test_and_the_other_ways(promise: str, spoil: Callable[[Evidence], Evidence]) -> None:
    assert judge(spoil(await sound()))[promise]


async def test_what_a_socket_shows_is_its_last_word() -> None:
    evidence = await sound()
    (transcript,) = evidence.transcripts
    assert shown(transcript) == dict.fromkeys(evidence.promised.values(), 1 + len(BODIES))
    assert shown([*transcript, {"type": "reset"}]) == {}
