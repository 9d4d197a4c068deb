"""`docs/reliability.md`, from what was measured: nothing in it is typed by hand."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.reliability.limits import bounds
from tests.reliability.matrix import MATRIX
from tests.verdict import PROMISES

ROOT = Path(__file__).parents[2]
DATA = ROOT / "docs" / "reliability"
PAGE = ROOT / "docs" / "reliability.md"
PARTS = ("tests", "durability", "chaos", "mutants")

INTRODUCTION = """# Reliability

Made by `make reliability` from the runs named below; the figures are in `docs/reliability/`. A promise is what the
judge (`tests/verdict.py`) checks over everything a run leaves: the log, the chain, Postgres, what clients and sockets
saw."""
LOSSES = """Accepted orders lost, of those placed; in brackets orders settled twice, because the log forgot what was
sent. A power cut is made by cutting Redis' file back to the last sync the setting guarantees."""
TAKEOVERS = """After a SIGKILL: ms until the last of the orders that waited for that service had moved on (gateway,
Redis: until there was an event again). Other faults go on meanwhile, and a worker frozen for 55 s keeps its items for
45 s."""


def page() -> str:
    """The whole text."""
    data = {part: json.loads((DATA / f"{part}.json").read_text()) for part in PARTS}
    sections = [
        INTRODUCTION,
        "## Promises",
        _table(("promise", "broken in chaos"), [(PROMISES[n], c) for n, c in data["chaos"]["broken"].items()]),
        "## Faults",
        "{passed} of {run} tests passed, on {date}, Python {python}.".format(**data["tests"]),
        _table(("fault", "what holds", "shown by", "result"), list(_faults(data["tests"]["results"]))),
        "## What is lost when",
        LOSSES,
        _durability(data["durability"]),
        "## Chaos",
        *_chaos(data["chaos"]),
        "## Planted bugs",
        "Each was planted in a copy of the project (`make mutants`), and this test turned red.",
        _table(("bug", "found by"), [(bug, f"`{test}`") for bug, test in data["mutants"].items()]),
        "## Limits",
        "Everything that could grow, its number, and what happens beyond.",
        _table(("what", "number", "where", "beyond"), [(b.what, b.number, b.where, b.beyond) for b in bounds()]),
    ]
    return "\n\n".join(sections) + "\n"


def _faults(results: dict[str, str]) -> Iterable[Sequence[object]]:
    for row in MATRIX:
        mine = {name: result for name, result in results.items() if name.partition("[")[0] in row.tests}
        passed = sum(result == "passed" for result in mine.values())
        verdict = f"{passed} of {len(mine)}" if mine else "not run"
        named = sorted({test.partition("::")[0] for test in row.tests})
        yield row.fault, row.invariant, ", ".join(f"`{path}`" for path in named), verdict


def _durability(measured: list[dict[str, Any]]) -> str:
    events = list(dict.fromkeys(one["event"] for one in measured))
    rows = []
    for setting in dict.fromkeys(one["appendfsync"] for one in measured):
        cells = {one["event"]: one for one in measured if one["appendfsync"] == setting}
        rows.append((f"`appendfsync {setting}`", *(_cell(cells[event]) for event in events)))
    return _table(("setting", *events), rows)


def _cell(one: dict[str, Any]) -> str:
    twice = f" ({one['settled_twice']})" if one["settled_twice"] else ""
    return f"{one['lost']} of {one['accepted']}{twice}"


def _chaos(run: dict[str, Any]) -> Iterable[str]:
    orders = ", ".join(f"{count} {status}" for status, count in run["orders"].items())
    places = ", ".join(f"{count} {outcome}" for outcome, count in sorted(run["operations"]["place"].items()))
    yield (
        f"`make chaos`, seed {run['seed']}, {run['seconds']} s: {orders}; {run['events']} events, {run['sockets']} "
        f"connections of sockets. Posts as clients saw them: {places}; each was repeated under its key until accepted."
    )
    faults: dict[str, int] = run["faults"]
    most_first = sorted(faults.items(), key=lambda item: -item[1])
    yield _table(("fault", "times"), most_first)
    yield TAKEOVERS
    takeovers = run["takeover_ms"].items()
    yield _table(("killed", "times", "p50", "longest"), [(n, t["kills"], t["p50"], t["max"]) for n, t in takeovers])


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
