"""What a run of chaos showed: the judge's table, the faults, and how long orders waited for whoever took over."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from libs.events.log import Entry
from libs.events.model import Status
from libs.events.reactions import NEXT_ACTOR
from tests.fault.chaos_faults import Fault
from tests.verdict import PROMISES, Verdict, kept

ACTORS = {event.__name__: actor for event, actor in NEXT_ACTOR.items() if actor}
SHOWN = 5


@dataclass(frozen=True)
class ChaosReport:
    """`takeovers`: for each service, in ms, how long the last of the orders waited that a kill caught."""

    plan_seed: int
    seconds: float
    faults: Sequence[Fault]
    operations: Mapping[str, Counter[str]]
    verdict: Verdict
    statuses: Counter[Status]
    events: int
    sockets: int
    takeovers: Mapping[str, Sequence[int]]
    parked: Counter[str]

    @property
    def kept(self) -> bool:
        return kept(self.verdict) and not self.parked

    def as_json(self) -> dict[str, object]:
        """For `docs/reliability.md`."""
        return {
            "seed": self.plan_seed,
            "seconds": round(self.seconds),
            "orders": dict(self.statuses),
            "events": self.events,
            "sockets": self.sockets,
            "faults": dict(Counter(fault.kind for fault in self.faults)),
            "operations": {kind: dict(counts) for kind, counts in self.operations.items()},
            "broken": {promise: len(found) for promise, found in self.verdict.items()},
            "takeover_ms": {
                name: {"kills": len(times), "p50": round(median(times)), "max": max(times)}
                for name, times in self.takeovers.items()
            },
        }


def takeovers(faults: Sequence[Fault], entries: Sequence[Entry]) -> dict[str, list[int]]:
    """By whom a kill hit: the time until every order that waited for it then had moved on (workers), or until there
    was an event again (gateway, Redis)."""
    timeline: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for entry in entries:
        timeline[entry.fields["subject"]].append((entry.at.ms, entry.fields["type"]))
    times = sorted(entry.at.ms for entry in entries)
    requests = sorted(entry.at.ms for entry in entries if entry.fields["type"] == "OrderRequested")
    found: dict[str, list[int]] = defaultdict(list)
    for fault in faults:
        service = fault.target.partition("-")[0]
        if fault.kind == "kill" and service in {"router", "executor"}:
            waited = _waited(timeline, service, fault.at_ms)
        elif (fault.kind, service) in {("kill", "gateway"), ("kill_redis", "redis")}:
            after = requests if service == "gateway" else times
            next_one = bisect_left(after, fault.at_ms)
            waited = after[next_one] - fault.at_ms if next_one < len(after) else None
        else:
            continue
        if waited is not None:
            found[service].append(waited)
    return dict(sorted(found.items()))


def _waited(timeline: Mapping[str, Sequence[tuple[int, str]]], service: str, at_ms: int) -> int | None:
    waits = []
    for events in timeline.values():
        if not events[0][0] <= at_ms < events[-1][0]:
            continue
        following = bisect_left(events, (at_ms + 1, ""))
        if ACTORS.get(events[following - 1][1]) == service:
            waits.append(events[following][0] - at_ms)
    return max(waits, default=None)


def table(report: ChaosReport) -> str:
    """The report for a terminal."""
    asked = report.operations.get("place", Counter())
    lines = [
        f"seed {report.plan_seed}, {report.seconds:.0f} s",
        f"{report.statuses.total()} orders, {report.events} events, {report.sockets} sockets",
        "ended: " + ", ".join(f"{count} {status}" for status, count in report.statuses.most_common()),
        "posts: " + ", ".join(f"{count} {outcome}" for outcome, count in asked.most_common()),
        "",
        *_rows(("faults", ""), Counter(f"{fault.kind} {fault.target}" for fault in report.faults).most_common()),
        "",
        *_rows(("promise", "broken"), [(PROMISES[name], len(found)) for name, found in report.verdict.items()]),
        *(f"  {name}: {what}" for name, found in report.verdict.items() for what in found[:SHOWN]),
        *(f"  parked {count} times, {reason}" for reason, count in report.parked.most_common(SHOWN)),
        "",
        *_rows(
            ("killed: until the last order it held moved on", "ms, p50 and longest"),
            [(f"{name}, {len(ms)} times", f"{median(ms):.0f} {max(ms)}") for name, ms in report.takeovers.items()],
        ),
    ]
    return "\n".join(lines) + "\n"


def _rows(title: tuple[str, str], rows: Sequence[tuple[str, object]]) -> list[str]:
    width = max(len(name) for name, _ in (title, *rows)) + 2
    return [f"{name:<{width}}{value}" for name, value in (title, *rows)]
