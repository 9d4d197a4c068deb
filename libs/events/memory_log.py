"""The log in memory: the same promises as Redis, for unit tests, simulation and demos. Nothing survives the process."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from libs.events.errors import Trimmed
from libs.events.ids import Position, partition_of, partition_of_user
from libs.events.log import (
    Committed,
    Conflict,
    Discarded,
    Duplicate,
    Entry,
    Item,
    NotYours,
    Only,
    Outcome,
    Parked,
    Snapshot,
    Step,
)
from libs.events.memory_parts import MemoryUpkeep, Partition, Pending
from libs.events.model import AttemptFailed
from libs.events.reactions import NEXT_ACTOR, TERMINAL, delay_ms, next_actor
from libs.events.record import item_fields, record

RECENT_MAX = 1_000


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryLog(MemoryUpkeep):
    """The `EventLog` port. `clock_ms` stands for Redis' clock."""

    def __init__(self, partitions: int, clock_ms: Callable[[], int] = _wall_clock_ms) -> None:
        self._parts = [Partition() for _ in range(partitions)]
        self._clock_ms = clock_ms
        self._made = 0
        self._changed = asyncio.Event()

    @property
    def partitions(self) -> int:
        return len(self._parts)

    @property
    def epoch(self) -> str:
        return "memory"

    async def start(self) -> None:
        """There is nothing to check: it was made with this process."""

    # Commits

    async def commit(self, step: Step) -> Outcome:
        await asyncio.sleep(0)
        part = self._parts[partition_of(step.order_id)]
        refusal = self._check(part, step)
        if refusal is None:
            written = self._write(part, step)
            self._wake()
            return Committed(written)
        return refusal

    async def commit_many(self, steps: Sequence[Step]) -> list[Outcome | Exception]:
        return [await self._tried(step) for step in steps]

    async def _tried(self, step: Step) -> Outcome | Exception:
        try:
            return await self.commit(step)
        except Exception as error:
            return error

    def _check(self, part: Partition, step: Step) -> Outcome | None:
        held = part.orders.get(step.order_id)
        version = held.order.version if held else part.retired.get(step.order_id, 0)
        if version != step.expected_version:
            return Conflict(held)
        if step.item and not self._mine(step.item):
            return NotYours()
        if step.idempotency and (taken := part.keys.get((step.user, step.idempotency.key))):
            return Duplicate(*taken)
        return None

    def _write(self, part: Partition, step: Step) -> tuple[Position, ...]:
        part.ms = max(part.ms, self._clock_ms())
        for event in step.events:
            at = Position(part.ms, len(part.entries) + 1)
            entry = Entry(partition_of(step.order_id), at, event.fields())
            part.entries.append(entry)
            part.trails[step.order_id].append(entry)
        last = step.events[-1].data if step.events else None
        actor, delay = (next_actor(last), delay_ms(last)) if last else (None, None)
        stays = step.item is not None and actor == step.item.service and delay is None
        if step.item and not stays:
            del part.work[step.item.service][step.item.id], part.pending[step.item.service][step.item.id]
        if step.events and step.order:
            self._remember(part, step, Snapshot(step.order, step.events[-1]))
            if step.order.status in TERMINAL:
                part.timers.pop(step.order_id, None)
            elif delay is not None:
                part.timers[step.order_id] = self._clock_ms() + delay
            elif actor and not stays:
                self._add_item(part, actor, step.order_id)
        return tuple(entry.at for entry in part.entries[len(part.entries) - len(step.events) :])

    def _remember(self, part: Partition, step: Step, now: Snapshot) -> None:
        part.orders[step.order_id] = now
        if step.expected_version == 0:
            part.recent[step.user] = sorted([*part.recent[step.user], step.order_id])[-RECENT_MAX:]
            if step.idempotency:
                part.keys[step.user, step.idempotency.key] = (step.order_id, step.idempotency.fingerprint)

    def _mine(self, item: Item) -> bool:
        held = self._parts[item.partition].pending[item.service].get(item.id)
        return held is not None and held.consumer == item.consumer

    def _add_item(self, part: Partition, service: str, order_id: str) -> None:
        self._made += 1
        part.work_ms[f"{self._made}-0"] = self._clock_ms()
        part.work[service][f"{self._made}-0"] = item_fields(part.trails[order_id][-1].fields)

    async def find(self, order_id: str) -> Snapshot | None:
        return self._parts[partition_of(order_id)].orders.get(order_id)

    async def version(self, order_id: str) -> int:
        part = self._parts[partition_of(order_id)]
        held = part.orders.get(order_id)
        return held.order.version if held else part.retired.get(order_id, 0)

    # Work

    async def take(self, service: str, consumer: str, count: int, block_ms: int) -> list[Item]:
        items = self._take_new(service, consumer, count)
        if not items and block_ms:
            await self._wait(block_ms)
            items = self._take_new(service, consumer, count)
        return items

    def _take_new(self, service: str, consumer: str, count: int) -> list[Item]:
        items: list[Item] = []
        for number, part in enumerate(self._parts):
            unseen = [item_id for item_id in part.work[service] if item_id not in part.pending[service]]
            for item_id in unseen[: max(1, count // len(self._parts))]:
                part.pending[service][item_id] = Pending(consumer, self._clock_ms(), 1)
                item = self._item(number, service, item_id)
                items.append(replace(item, fields=self._record(part, item.order_id)))
        return items

    def _record(self, part: Partition, order_id: str) -> dict[str, str]:
        held, entries = part.orders.get(order_id), part.trails[order_id]
        trail = " ".join(str(entry.at) for entry in entries)
        if held is None:
            return {"version": str(part.retired[order_id]), "trail": trail} if order_id in part.retired else {}
        return record(held.order, [entry.fields for entry in entries], trail)

    def _item(self, partition: int, service: str, item_id: str) -> Item:
        part = self._parts[partition]
        fields, held = part.work[service][item_id], part.pending[service][item_id]
        return Item(service, held.consumer, partition, item_id, fields["subject"], fields, held.deliveries)

    async def take_rest(self, service: str, consumer: str) -> list[Item]:  # noqa: ARG002 - nothing is under way here
        return []

    async def take_pending(self, service: str, consumer: str) -> list[Item]:
        return self._redeliver(service, consumer, lambda held: held.consumer == consumer)

    async def claim(self, service: str, consumer: str, idle_ms: int) -> list[Item]:
        return self._redeliver(service, consumer, lambda held: self._clock_ms() - held.since_ms >= idle_ms)

    def _redeliver(self, service: str, consumer: str, wanted: Callable[[Pending], bool]) -> list[Item]:
        items: list[Item] = []
        for number, part in enumerate(self._parts):
            for item_id, held in list(part.pending[service].items()):
                if wanted(held):
                    part.pending[service][item_id] = Pending(consumer, self._clock_ms(), held.deliveries)
                    item = self._item(number, service, item_id)
                    items.append(replace(item, deliveries=held.deliveries + 1))
        return items

    async def renew(self, items: Sequence[Item]) -> None:
        for item in items:
            held = self._parts[item.partition].pending[item.service].get(item.id)
            if held:
                held.consumer, held.since_ms = item.consumer, self._clock_ms()

    async def count_delivery(self, item: Item) -> int:
        held = self._parts[item.partition].pending[item.service].get(item.id)
        if held is None:
            return item.deliveries + 1
        held.consumer, held.since_ms = item.consumer, self._clock_ms()
        held.deliveries += 1
        return held.deliveries

    async def park(self, item: Item, reason: str, fingerprint: str) -> bool:
        if not self._mine(item):
            return False
        part = self._parts[item.partition]
        fields = part.work[item.service].pop(item.id)
        del part.pending[item.service][item.id]
        self._made += 1
        parked_id = f"{self._made}-0"
        part.parked[parked_id] = Parked(
            item.partition,
            parked_id,
            item.service,
            item.order_id,
            reason,
            item.deliveries,
            fingerprint,
            fields["id"],
            fields["type"],
            fields["traceparent"],
            made_ms=self._clock_ms(),
            parked_ms=self._clock_ms(),
        )
        return True

    async def parked(self, count: int = 100) -> list[Parked]:
        return [parked for part in self._parts for parked in part.parked.values()][:count]

    async def redrive(self, parked: Parked) -> bool:
        part = self._parts[parked.partition]
        if parked.id not in part.parked or parked.order_id not in part.orders:
            return False
        del part.parked[parked.id]
        self._add_item(part, parked.service, parked.order_id)
        self._wake()
        return True

    async def discard(self, parked: Parked, by: str, reason: str) -> bool:
        part = self._parts[parked.partition]
        held = part.parked.pop(parked.id, None)
        if held is None:
            return False
        part.discarded.append(Discarded(held, by, reason, self._clock_ms()))
        return True

    async def discarded(self, count: int = 100) -> list[Discarded]:
        found = [item for part in self._parts for item in part.discarded]
        return sorted(found, key=lambda item: item.at_ms)[-count:]

    async def move_due(self) -> int:
        actor = NEXT_ACTOR[AttemptFailed]
        assert actor is not None
        moved = 0
        for part in self._parts:
            for order_id in [name for name, due in part.timers.items() if due <= self._clock_ms()]:
                del part.timers[order_id]
                self._add_item(part, actor, order_id)
                moved += 1
        if moved:
            self._wake()
        return moved

    async def timers(self, count: int) -> list[str]:
        return [name for part in self._parts for name in sorted(part.timers, key=part.timers.__getitem__)[:count]]

    async def hasten(self, order_ids: Sequence[str]) -> None:
        for order_id in order_ids:
            timers = self._parts[partition_of(order_id)].timers
            if order_id in timers:
                timers[order_id] = 0

    async def backlog(self, service: str) -> int:
        return sum(len(part.work[service]) for part in self._parts)

    # Reads

    async def tip(self, partition: int) -> Position:
        part = self._parts[partition]
        return Position(part.ms, len(part.entries))

    async def read(
        self, after: Mapping[int, Position], count: int, block_ms: int, only: Only | None = None
    ) -> list[Entry]:
        entries = self._entries(after, count)
        if not entries and block_ms:
            await self._wait(block_ms)
            entries = self._entries(after, count)
        return entries if only is None else _wanted(entries, only)

    def _entries(self, after: Mapping[int, Position], count: int) -> list[Entry]:
        for partition, at in after.items():
            if at.position + 1 < (first := self._parts[partition].first):
                raise Trimmed(partition, at.position + 1, first)
        return [
            entry
            for partition, at in after.items()
            for entry in self._parts[partition].entries[at.position : at.position + count]
        ]

    async def history(self, order_id: str) -> list[Entry]:
        part = self._parts[partition_of(order_id)]
        return [entry for entry in part.trails.get(order_id, ()) if entry.at.position >= part.first]

    async def recent(self, user: str, before: str | None, limit: int) -> list[str]:
        ids: Iterable[str] = self._parts[partition_of_user(user, self.partitions)].recent.get(user, ())
        return [order_id for order_id in sorted(ids, reverse=True) if not before or order_id < before][:limit]

    async def find_many(self, order_ids: Sequence[str]) -> dict[str, Snapshot]:
        found = {order_id: await self.find(order_id) for order_id in order_ids}
        return {order_id: held for order_id, held in found.items() if held}

    async def order_of_key(self, user: str, key: str) -> str | None:
        held = self._parts[partition_of_user(user, self.partitions)].keys.get((user, key))
        return held[0] if held else None

    async def register_reader(self, name: str, at: Mapping[int, Position]) -> None:
        for partition, position in at.items():
            self._parts[partition].readers[name] = (position, self._clock_ms())

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait(self, block_ms: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(block_ms / 1_000):
                await self._changed.wait()


def _wanted(entries: list[Entry], only: Only) -> list[Entry]:
    lasts = {entry.partition: entry for entry in entries}
    return [
        entry
        for entry in entries
        if entry is lasts[entry.partition] or only(entry.fields["user"], entry.fields["subject"])
    ]
