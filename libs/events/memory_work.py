"""Work items in memory: those of each service, in whose hands they are, and those set aside."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from libs.events.ids import partition_of
from libs.events.memory_parts import MemoryParts, Partition, Pending
from libs.events.model import AttemptFailed
from libs.events.parked import Discarded, Parked
from libs.events.reactions import NEXT_ACTOR
from libs.events.record import record
from libs.events.work import Item, begin_of


class MemoryWork(MemoryParts):
    """The `Work` and `ParkedItems` roles of `MemoryLog`."""

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
        if held is None:
            return {"version": str(part.retired[order_id])} if order_id in part.retired else {}
        return record(held.order, [entry.fields for entry in entries], " ".join(str(entry.at) for entry in entries))

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

    async def uncount_delivery(self, items: Sequence[Item]) -> None:
        for item in items:
            if self._mine(item):
                held = self._parts[item.partition].pending[item.service][item.id]
                held.deliveries = max(1, held.deliveries - 1)

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

    async def timers(self, count: int, turn: int = 0) -> list[str]:
        found: list[str] = []
        for part in self._parts:
            begin = begin_of(turn, count, len(part.timers))
            found += sorted(part.timers, key=part.timers.__getitem__)[begin : begin + count]
        return found

    async def hasten(self, order_ids: Sequence[str]) -> None:
        for order_id in order_ids:
            timers = self._parts[partition_of(order_id)].timers
            if order_id in timers:
                timers[order_id] = 0

    async def backlog(self, service: str) -> int:
        return sum(len(part.work[service]) for part in self._parts)
