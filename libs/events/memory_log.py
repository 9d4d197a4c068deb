"""The log in memory: the same promises as Redis, for unit tests, simulation and demos. Nothing survives the process."""

import asyncio
from collections.abc import Sequence

from libs.events.ids import Position, partition_of
from libs.events.log import (
    RECENT_MAX,
    Committed,
    Conflict,
    Duplicate,
    Entry,
    NotYours,
    Outcome,
    Snapshot,
    Step,
    TooManyOpen,
)
from libs.events.memory_parts import Partition
from libs.events.memory_reads import MemoryReads
from libs.events.memory_upkeep import MemoryUpkeep
from libs.events.memory_work import MemoryWork
from libs.events.reactions import TERMINAL, delay_ms, next_actor


class MemoryLog(MemoryReads, MemoryWork, MemoryUpkeep):
    """The `EventLog` and `Upkeep` ports. `clock_ms` stands for Redis' clock."""

    async def start(self) -> None:
        """There is nothing to check: it was made with this process."""

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
        held, version = part.orders.get(step.order_id), part.version_of(step.order_id)
        if version != step.expected_version:
            return Conflict(held)
        if step.item and not self._mine(step.item):
            return NotYours()
        if step.idempotency and (taken := part.keys.get((step.user, step.idempotency.key))):
            return Duplicate(*taken)
        if step.open_max is not None and (count := len(part.open[step.user])) >= step.open_max:
            return TooManyOpen(count)
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
                part.open[step.user].discard(step.order_id)
            elif delay is not None:
                part.timers[step.order_id] = self._clock_ms() + delay
            elif actor and not stays:
                self._add_item(part, actor, step.order_id)
        return tuple(entry.at for entry in part.entries[len(part.entries) - len(step.events) :])

    def _remember(self, part: Partition, step: Step, now: Snapshot) -> None:
        part.orders[step.order_id] = now
        if step.expected_version == 0:
            part.open[step.user].add(step.order_id)
            part.recent[step.user] = sorted([*part.recent[step.user], step.order_id])[-RECENT_MAX:]
            if step.idempotency:
                part.keys[step.user, step.idempotency.key] = (step.order_id, step.idempotency.fingerprint)
