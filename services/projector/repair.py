"""Is the log in Redis the one the archive knows, and whole? If not, the archive makes it so; the fence opens last.

Every part may be done again, so a repair that was cut short is simply begun anew: until the last step nobody else
writes, and a partition counts as damaged until its new epoch is set. The order within a partition matters: orders and
work first, then the entries, then the end of the log; what is still missing at its end tells which orders to make.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from libs.events.crash import crash_point
from libs.events.errors import LogReplaced, LogUnavailable
from libs.events.ids import START, Position
from libs.events.log import Entry
from libs.events.model import OrderRequested
from libs.events.order import Order
from libs.events.reactions import TERMINAL
from libs.events.repair import KEPT, Held, RepairableLog, Restored, is_earlier, new_epoch
from libs.orders.archived import position_before
from libs.orders.batch import Batch
from libs.orders.recovery import Recovery
from libs.orders.store import Checkpoint, OrderStore, Projection
from services.projector import observe
from services.projector.verdict import (
    Verdict,
    check_layout,
    check_reach,
    compare,
    is_new,
    is_outdated_alone,
    judge,
    place_to_compare,
    told,
)

PAGE = 500
# Of a log that must be made from nothing this much comes back; the rest is read from the archive.
RESTORED_ENTRIES_MAX = 10_000


class Repair:
    """The one process that may close the log and open it."""

    def __init__(
        self, log: RepairableLog, store: OrderStore, projection: Projection, *, window: int = RESTORED_ENTRIES_MAX
    ) -> None:
        self._log, self._redis = log, log.repair
        self._store, self._recovery, self._projection = store, Recovery(store), projection
        self._window = window

    async def glance(self, at: Mapping[int, Position]) -> set[int]:
        """Once a second: is the log still as it was? Gives the partitions that are there: no other is read meanwhile.

        Raises:
            LogReplaced: no; `mend` must look at it.
        """
        held = await self._redis.glance()
        verdicts = {one.partition: judge(one, Checkpoint(self._log.epoch, at[one.partition])) for one in held}
        if any(verdict.lost or verdict.alarm for verdict in verdicts.values()) or not _open(held):
            raise LogReplaced("; ".join(told(verdicts)) or "somebody missed work, or Redis restarted")
        return set(verdicts)

    async def mend(self) -> None:
        """Leave a log that is whole, and open.

        Raises:
            LogUnavailable, StoreUnavailable: begin again.
            LogMismatch, StoreError: nothing can be said for certain; an operator must look.
        """
        async with self._recovery.alone():
            held = await self._without_strangers(await self._redis.look())
            verdicts = await self._judged(held)
            if not any(verdict.lost for verdict in verdicts.values()) and _open(held):
                return
            # Where nothing is wrong others still write: once more, when nothing moves.
            held = await self._redis.close()
            verdicts = await self._judged(held)
            if any(verdict.lost for verdict in verdicts.values()):
                epoch = await self._restore(held, verdicts)
            else:
                epoch = held[0].epoch
                if any(verdict.alarm for verdict in verdicts.values()):
                    await self._remake_work(held, verdicts, epoch)
            crash_point("repair.open.before")
            await self._redis.open(held, epoch)
            observe.fence_opened(epoch)
            crash_point("repair.open.after")

    async def _without_strangers(self, held: list[Held]) -> list[Held]:
        """Before anything is judged by its position: what somebody wrote by hand has one that means nothing."""
        odd = [one.partition for one in held if not one.is_as_committed]
        dropped = {partition: await self._redis.drop_strangers(partition) for partition in odd}
        for partition, entry_ids in dropped.items():
            if entry_ids:
                observe.strangers_dropped(partition, entry_ids)
        return await self._redis.look() if any(dropped.values()) else held

    async def _judged(self, held: list[Held]) -> dict[int, Verdict]:
        checkpoints = await self._store.checkpoints()
        check_layout(held, checkpoints)
        for one in held:
            await self._compare(one, checkpoints.get(one.partition))
        keeps_all = await self._redis.keeps_all()
        return {
            one.partition: judge(
                one,
                checkpoints.get(one.partition),
                restarted=not one.is_open,
                keeps_all=keeps_all,
                outdated=is_earlier(one.layout, len(held)),
            )
            for one in held
        }

    async def _compare(self, held: Held, checkpoint: Checkpoint | None) -> None:
        check_reach(held, checkpoint)
        at = place_to_compare(held, checkpoint) if checkpoint else None
        if at is None:
            return
        archived = await self._store.archived(held.partition, at.position - 1, 1)
        compare(at, await self._redis.entry(held.partition, at), archived[0] if archived else None)

    async def _restore(self, held: list[Held], verdicts: Mapping[int, Verdict]) -> str:
        """Facts are missing: another epoch for everybody, and everything from the archive."""
        epoch, checkpoints = new_epoch(), await self._store.checkpoints()
        _say_why(epoch, verdicts, new=is_new(held, checkpoints))
        crash_point("repair.adopt.before")
        await self._recovery.adopt(epoch, len(held))
        crash_point("repair.adopt.after")
        for one in held:
            if not one.is_whole:
                await self._redis.drop_ghosts(one.partition)
        at = await self._catch_up(held, epoch)
        hurt = {one.partition for one in held if verdicts[one.partition].lost or verdicts[one.partition].alarm}
        for one in held:
            if one.partition in hurt:
                again = _was_begun(one, checkpoints.get(one.partition))
                forgotten = again or _misleads(one, at[one.partition]) or is_earlier(one.layout, len(held))
                if forgotten:
                    await self._redis.forget_orders(one.partition)
                await self._redis.drop_work(one.partition)
                await self._remake_recent(one, at[one.partition], 0 if forgotten else one.last.position)
        crash_point("repair.orders.after")
        await self._remake_open(hurt)
        for one in held:
            if one.last.position < at[one.partition].position or not one.is_whole:
                await self._append(one, at[one.partition])
            crash_point("repair.append.after")
            if one.farthest_reader > one.last.position:
                await self._redis.forget_readers(one.partition)
            end = Position(max(one.ms, at[one.partition].ms), at[one.partition].position)
            await self._redis.settle(one.partition, epoch, end)
        return epoch

    async def _remake_work(self, held: list[Held], verdicts: Mapping[int, Verdict], epoch: str) -> None:
        """No fact is missing, but work may be."""
        hurt = {partition for partition, verdict in verdicts.items() if verdict.alarm}
        observe.work_remade(sorted(hurt))
        await self._catch_up(held, epoch)
        for partition in hurt:
            await self._redis.drop_work(partition)
        await self._remake_open(hurt)

    async def _catch_up(self, held: list[Held], epoch: str) -> dict[int, Position]:
        """Archive what the log has beyond the checkpoints, so that Postgres knows everything there is to know."""
        at = await self._projection.resume(epoch, len(held))
        ends = {one.partition: one.last for one in held}
        while behind := {p: at[p] for p, last in ends.items() if at[p].position < last.position}:
            entries = await self._log.read_unchecked(behind, PAGE, 0)
            if not entries:
                raise LogUnavailable("the log was emptied while it was checked")
            at |= await self._projection.apply(epoch, Batch(behind, entries))
        return at

    async def _remake_open(self, hurt: set[int]) -> None:
        """Hash, and item or timer, of every order that has not ended."""
        parked = {partition: await self._redis.parked_versions(partition) for partition in hurt}
        now = datetime.now(UTC)
        async for page in self._recovery.unfinished():
            orders = await self._with_entries(page)
            for partition in hurt:
                mine = [one for one in orders if one.entries[0].partition == partition]
                await self._redis.remake_orders(partition, mine, now)
                await self._redis.remake_work(partition, mine, parked[partition])

    async def _remake_recent(self, held: Held, end: Position, after: int) -> None:
        """Of a day's events beyond `after`: the keys of requests, and the orders that have ended."""
        now, partition = datetime.now(UTC), held.partition
        since_ms = int((now - KEPT).timestamp() * 1_000)
        after = max(after, await position_before(self._store, partition, since_ms, end.position))
        while entries := await self._store.archived(partition, after, PAGE):
            after = entries[-1].at.position
            requests = [entry for entry in entries if entry.fields["type"] == OrderRequested.__name__]
            await self._redis.remake_keys(partition, requests, now)
            orders = await self._store.get_many(sorted({entry.fields["subject"] for entry in entries}))
            ended = await self._with_entries(_ended_in(entries, orders, now))
            await self._redis.remake_orders(partition, ended, now)

    async def _with_entries(self, orders: Mapping[str, Order]) -> list[Restored]:
        found = await self._recovery.entries_of(list(orders)) if orders else {}
        return [Restored(orders[order_id], entries) for order_id, entries in found.items()]

    async def _append(self, held: Held, end: Position) -> None:
        after = held.last.position
        # Where entries were taken off the end Redis takes none of the same ids any more.
        if end.position - after > self._window or held.last == START or held.position > after or not held.is_whole:
            after = max(0, end.position - self._window)
            await self._redis.empty_log(held.partition)
        while after < end.position and (entries := await self._store.archived(held.partition, after, PAGE)):
            await self._redis.append(held.partition, entries)
            after = entries[-1].at.position
        observe.entries_restored(held.partition, end.position - held.last.position)


def _say_why(epoch: str, verdicts: Mapping[int, Verdict], *, new: bool) -> None:
    if new:
        observe.log_made(epoch)
    elif is_outdated_alone(verdicts):
        observe.brought_up_to_date(epoch)
    else:
        observe.repair_begun(epoch, told(verdicts))


def _open(held: list[Held]) -> bool:
    return all(one.is_open for one in held)


def _was_begun(held: Held, checkpoint: Checkpoint | None) -> bool:
    """Whether a repair of it was cut short: nothing tells what that repair has dropped already."""
    return checkpoint is not None and held.epoch != checkpoint.epoch


def _misleads(held: Held, end: Position) -> bool:
    """Whether its orders may be wrong: they hold events that exist nowhere else, or entries of it are missing, or it is
    so old that some of its open orders have ended longer ago than a repair makes ended orders again.
    """
    until_ms = int((datetime.now(UTC) - KEPT / 2).timestamp() * 1_000)  # well before the day is over
    is_old = held.last.position < end.position and held.last.ms < until_ms
    return is_old or not held.is_whole or held.position > max(held.last.position, end.position)


def _ended_in(entries: list[Entry], orders: Mapping[str, Order], now: datetime) -> dict[str, Order]:
    """Orders whose last event is among these: each is met once, however many pages its events fill."""
    ended: dict[str, Order] = {}
    for entry in entries:
        order = orders.get(entry.fields["subject"])
        last_of = order if order and int(entry.fields["version"]) == order.version else None
        if last_of and last_of.status in TERMINAL and now - last_of.updated_at < KEPT:
            ended[last_of.id] = last_of
    return ended
