"""What the system promised, judged from what it left: the log, the chain, the projection, what sockets and clients saw.

Pure: the same judgement for real runs (`make chaos`) and for simulated ones.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from libs.events.envelope import Envelope
from libs.events.errors import VersionGap
from libs.events.log import Entry
from libs.events.model import OrderRequested, TxConfirmed
from libs.events.order import Order, evolve
from libs.events.reactions import TERMINAL

PROMISES = {
    "lost": "an accepted order is in the log",
    "duplicated": "no event twice, no second order under one key",
    "reordered": "an order's events stand in the order of their versions",
    "stuck": "every order ends",
    "ended twice": "an order has one terminal event, its last",
    "version holes": "versions are 1, 2, 3 … without a gap",
    "position holes": "positions of a partition are 1, 2, 3 … without a gap",
    "two settlements": "one settled transaction for a confirmed order, none for any other",
    "projection ≠ fold": "Postgres equals the fold of the log",
    "socket view ≠ log": "a socket shows every event once, in version order, or says reset",
}
Transcript = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Evidence:
    """`entries`: the whole log, in the order it is stored. `settled`: signatures executed without error, by order."""

    entries: Sequence[Entry]
    promised: Mapping[str, str] = field(default_factory=dict)
    contradictions: Sequence[str] = ()
    settled: Mapping[str, Sequence[str]] | None = None
    projected: Mapping[str, Order] | None = None
    archived: Sequence[Entry] | None = None
    transcripts: Sequence[Transcript] = ()


Verdict = dict[str, list[str]]


def judge(evidence: Evidence) -> Verdict:
    """Every promise with what broke it; all lists empty: all were kept. `promised` is order id by key."""
    found: Verdict = {name: [] for name in PROMISES}
    histories: dict[str, list[Envelope]] = defaultdict(list)
    for entry in evidence.entries:
        event = entry.decode()
        histories[event.subject].append(event)
    found["lost"] = [f"{order} (key {key})" for key, order in evidence.promised.items() if order not in histories]
    found["position holes"] = list(_position_holes(evidence.entries))
    found["duplicated"] = [*_duplicated(evidence.entries, histories), *evidence.contradictions]
    orders: dict[str, Order] = {}
    for order_id, history in histories.items():
        _judge_history(order_id, history, found, orders)
    if evidence.settled is not None:
        found["two settlements"] = list(_settlements(evidence.settled, histories))
    if evidence.projected is not None:
        found["projection ≠ fold"] = list(_differences(orders, evidence.projected))
    if evidence.archived is not None and list(evidence.archived) != sorted(
        evidence.entries, key=lambda entry: (entry.partition, entry.at)
    ):
        found["projection ≠ fold"].append(f"{len(evidence.archived)} archived, {len(evidence.entries)} in the log")
    for number, transcript in enumerate(evidence.transcripts):
        found["socket view ≠ log"] += [f"socket {number}: {what}" for what in judge_socket(transcript, histories)]
    return found


def kept(verdict: Verdict) -> bool:
    """Whether nothing was broken."""
    return not any(verdict.values())


def fold(history: Iterable[Envelope]) -> Order:
    """The order these events make. Raises VersionGap on a hole."""
    order: Order | None = None
    for event in history:
        order = evolve(order, event)
    assert order is not None
    return order


def open_orders(histories: Mapping[str, Sequence[Envelope]], wanted: Iterable[str]) -> list[str]:
    """Those of the wanted orders that have not ended."""
    return sorted(name for name in wanted if name not in histories or fold(histories[name]).status not in TERMINAL)


def judge_socket(transcript: Transcript, histories: Mapping[str, Sequence[Envelope]]) -> Iterable[str]:
    """What is wrong with everything one connection said, from its first message to its last."""
    seen: dict[str, int] = {}
    for message in transcript:
        if message["type"] in {"snapshot", "reset"}:
            seen = {order["orderId"]: order["version"] for order in message.get("orders", ())}
            continue
        if message["type"] == "heartbeat":
            continue
        order_id, version = message["orderId"], message["version"]
        history = histories.get(order_id, ())
        if not 1 <= version <= len(history) or history[version - 1].type != message["type"]:
            yield f"{order_id}/{version} {message['type']} is not in the log"
        # An order older than the snapshot reaches may begin anywhere, but only once.
        if version != seen.get(order_id, version - 1) + 1:
            yield f"{order_id}: {version} after {seen[order_id]}"
        seen[order_id] = version


def shown(transcript: Transcript) -> dict[str, int]:
    """Version by order, as a connection shows them after everything it said."""
    versions: dict[str, int] = {}
    for message in transcript:
        if message["type"] in {"snapshot", "reset"}:
            versions = {order["orderId"]: order["version"] for order in message.get("orders", ())}
        elif message["type"] != "heartbeat":
            versions[message["orderId"]] = message["version"]
    return versions


def _judge_history(order_id: str, history: list[Envelope], found: Verdict, orders: dict[str, Order]) -> None:
    versions = [event.version for event in history]
    if versions != sorted(versions):
        found["reordered"].append(f"{order_id}: {versions}")
    if sorted(set(versions)) != list(range(1, max(versions) + 1)):
        found["version holes"].append(f"{order_id}: {versions}")
    order: Order | None = None
    ends = 0
    try:
        for event in history:
            order = evolve(order, event)
            ends += order.status in TERMINAL
    except VersionGap as gap:
        found["version holes"].append(str(gap))
    if order is None or order.status not in TERMINAL:
        found["stuck"].append(f"{order_id}: {order.status if order else 'unreadable'}")
    if ends > 1:
        found["ended twice"].append(f"{order_id}: {[event.type for event in history]}")
    if order:
        orders[order_id] = order


def _position_holes(entries: Iterable[Entry]) -> Iterable[str]:
    last: dict[int, int] = defaultdict(int)
    for entry in entries:
        if entry.at.position != last[entry.partition] + 1:
            yield f"partition {entry.partition}: {entry.at.position} after {last[entry.partition]}"
        last[entry.partition] = entry.at.position


def _duplicated(entries: Iterable[Entry], histories: Mapping[str, Sequence[Envelope]]) -> Iterable[str]:
    for event_id, count in Counter(entry.fields["id"] for entry in entries).items():
        if count > 1:
            yield f"event {event_id}, {count} times"
    keys: dict[tuple[str, str], list[str]] = defaultdict(list)
    for order_id, history in histories.items():
        asked = history[0].data
        if isinstance(asked, OrderRequested) and asked.idempotency_key:
            keys[history[0].user, asked.idempotency_key].append(order_id)
    yield from (f"key {key}: {orders}" for (_, key), orders in keys.items() if len(orders) > 1)


def _settlements(settled: Mapping[str, Sequence[str]], histories: Mapping[str, Sequence[Envelope]]) -> Iterable[str]:
    for order_id in settled.keys() | histories.keys():
        end = histories[order_id][-1].data if order_id in histories else None
        wanted = [end.signature] if isinstance(end, TxConfirmed) else []
        if list(settled.get(order_id, ())) != wanted:
            yield f"{order_id}: settled {list(settled.get(order_id, ()))}, the log says {wanted}"


def _differences(folded: Mapping[str, Order], projected: Mapping[str, Order]) -> Iterable[str]:
    for order_id in folded.keys() | projected.keys():
        if folded.get(order_id) != projected.get(order_id):
            yield order_id
