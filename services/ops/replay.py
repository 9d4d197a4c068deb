"""One order told again: every event, where it is kept, and what it changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from libs.events.errors import VersionGap
from libs.events.ids import partition_of
from libs.events.log import Entry
from libs.events.order import Order, evolve
from libs.orders.presentation import order_body
from services.ops.stack import Stack

LOG, ARCHIVE = "log", "archive"
_NOT_TOLD = frozenset({"version", "updatedAt"})  # every event changes them


@dataclass(frozen=True, slots=True)
class Step:
    """An event, the stores it is in, the order after it (None: cannot be known) and what it changed, from and to."""

    entry: Entry
    stores: tuple[str, ...]
    order: Order | None
    changed: dict[str, tuple[Any, Any]]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """The whole story, and every way in which the stores do not tell the same one."""

    steps: Sequence[Step]
    problems: Sequence[str]

    @property
    def half_told(self) -> bool:
        """Whether an event is missing, or not understood."""
        return any(step.order is None for step in self.steps)


async def replay(stack: Stack, order_id: str) -> Replay:
    """The order's events from log and archive as one; without steps when nobody knows the order.

    Raises:
        LogUnavailable, StoreUnavailable
    """
    # The log first: an entry archived and trimmed between the two reads is then in both, never in neither.
    logged = {_version(entry): entry for entry in await stack.log.history(order_id)}
    archived = {_version(entry): entry for entry in await stack.store.entries(order_id)} if stack.store else {}
    if not logged:
        # Of an order that was let go the log no longer knows where its entries are; they may be there all the same.
        there = await stack.log.entries_at(partition_of(order_id), [entry.at for entry in archived.values()])
        logged = {_version(entry): entry for entry in there}
    nowhere = "neither in the log nor in the archive" if stack.store else "not in the log; the archive cannot be asked"
    steps: list[Step] = []
    last = 0
    for version in sorted({*logged, *archived}):
        before = steps[-1].order if steps else None
        steps.append(_step(before, last, logged.get(version), archived.get(version), nowhere))
        last = version
    problems = [step.problem for step in steps if step.problem]
    if steps and not problems:
        problems = await _differences(stack, order_id, steps[-1].order)
    return Replay(steps, problems)


def _step(before: Order | None, last: int, logged: Entry | None, archived: Entry | None, nowhere: str) -> Step:
    entry = logged or archived
    assert entry is not None
    stores = tuple(name for name, held in ((LOG, logged), (ARCHIVE, archived)) if held)
    version = _version(entry)
    if version != last + 1:
        missing = f"version {last + 1} is" if version == last + 2 else f"versions {last + 1} to {version - 1} are"
        return Step(entry, stores, None, {}, f"{missing} {nowhere}")
    if before is None and last:
        return Step(entry, stores, None, {})
    problem = ""
    if logged and archived and (logged.at != archived.at or logged.fields != archived.fields):
        problem = f"version {version} is not the same in the log ({logged.at}) and in the archive ({archived.at})"
    try:
        after = evolve(before, entry.decode())
    except (ValueError, VersionGap) as error:
        return Step(entry, stores, None, {}, f"version {version} cannot be understood: {error}")
    return Step(entry, stores, after, _changed(before, after), problem)


async def _differences(stack: Stack, order_id: str, folded: Order | None) -> list[str]:
    """Where the kept states are not what the events fold to. A projection that is behind is no difference."""
    if folded is None:
        return []
    found: list[str] = []
    try:
        snapshot = await stack.log.find(order_id)
    except ValueError as error:
        found.append(f"the order's hash in Redis cannot be read: {error}")
    else:
        if snapshot and snapshot.order.version == folded.version and snapshot.order != folded:
            found.append("the order's hash in Redis is not what its events fold to")
    stored = await stack.store.get(order_id) if stack.store else None
    if stored and stored.version == folded.version and stored != folded:
        found.append("the order's row in Postgres is not what its events fold to")
    return found


def _changed(before: Order | None, after: Order) -> dict[str, tuple[Any, Any]]:
    old, new = order_body(before) if before else {}, order_body(after)
    return {name: (old.get(name), new[name]) for name in new if name not in _NOT_TOLD and old.get(name) != new[name]}


def _version(entry: Entry) -> int:
    return int(entry.fields["version"])
