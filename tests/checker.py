"""Reads everything the system holds and says whether its promises were kept."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import aiohttp

from deploy.local.stack import Stack
from libs.events.ids import START
from libs.events.log import Entry
from libs.events.model import Envelope, Status, TxConfirmed
from libs.events.order import Order, evolve
from libs.events.reactions import TERMINAL, WORKERS
from libs.events.redis_log import open_redis_log
from libs.orders.store import open_store
from tests.waiting import eventually

PAGE = 1_000


async def whole_log(stack: Stack) -> list[Entry]:
    """Every entry of every partition; the reader itself stops on a hole in the positions."""
    async with open_redis_log(stack.redis_url, stack.settings.partitions) as log:
        after = dict.fromkeys(range(stack.settings.partitions), START)
        entries: list[Entry] = []
        while page := await log.read(after, PAGE, 0):
            entries += page
            after |= {entry.partition: entry.at for entry in page}
        return entries


def histories(entries: Iterable[Entry]) -> dict[str, list[Envelope]]:
    """Events by order, in log order."""
    found: dict[str, list[Envelope]] = defaultdict(list)
    for entry in entries:
        event = entry.decode()
        found[event.subject].append(event)
    return dict(found)


def fold(history: Iterable[Envelope]) -> Order:
    """The order these events make. Raises VersionGap on a hole."""
    order: Order | None = None
    for event in history:
        order = evolve(order, event)
    assert order is not None
    return order


def check_histories(found: dict[str, list[Envelope]], expected_ids: Iterable[str]) -> None:
    """Nothing lost, doubled, reordered or stuck; exactly one terminal event, the last."""
    assert set(expected_ids) <= set(found), "an accepted order is not in the log"
    for order_id, history in found.items():
        assert [event.version for event in history] == list(range(1, len(history) + 1)), order_id
        assert len({event.id for event in history}) == len(history), order_id
        ends = [event for event in history if fold(history[: event.version]).status in TERMINAL]
        assert len(ends) == 1, f"{order_id} has {len(ends)} terminal events: {[event.type for event in history]}"
        assert ends[0] is history[-1], order_id


async def check_settlements(stack: Stack, found: dict[str, list[Envelope]]) -> None:
    """On the chain: one settled transaction for a confirmed order, none for any other."""
    url = f"http://127.0.0.1:{stack.ports.localnet}/admin/settled"
    async with aiohttp.ClientSession() as session:
        for order_id, history in found.items():
            async with session.get(url, params={"reference": order_id}) as answer:
                executed = await answer.json()
            settled = [tx["signature"] for tx in executed if tx["err"] is None]
            end = history[-1].data
            assert settled == ([end.signature] if isinstance(end, TxConfirmed) else []), order_id


async def check_projection(stack: Stack, entries: list[Entry]) -> None:
    """Postgres equals the fold of the log, and the archive equals the log."""
    orders = {order_id: fold(history) for order_id, history in histories(entries).items()}
    tips = Counter(entry.partition for entry in entries)
    async with open_store(stack.database_url) as store:

        async def caught_up() -> bool:
            held = await store.checkpoints()
            return all(held[partition].at.position >= count for partition, count in tips.items())

        await eventually(caught_up, what="the projector has caught up")
        ids = sorted(orders)
        projected = await store.get_many(ids)
        assert projected == orders
        for partition, count in tips.items():
            archived: list[Entry] = []
            while page := await store.archived(partition, len(archived), PAGE):
                archived += page
            assert len(archived) == count
            assert archived == [entry for entry in entries if entry.partition == partition]


async def check_no_work_left(stack: Stack) -> None:
    """Every order has ended, so nobody has anything to do, and nothing was set aside."""
    async with open_redis_log(stack.redis_url, stack.settings.partitions) as log:

        async def nothing_left() -> bool:
            return not any([await log.backlog(service) for service in WORKERS])

        await eventually(nothing_left, what="empty backlogs")
        assert await log.parked() == []


async def all_terminal(stack: Stack, order_ids: Iterable[str], within_s: float = 60) -> None:
    """Wait until every order has ended."""
    wanted = set(order_ids)

    async def ended() -> bool:
        found = histories(await whole_log(stack))
        open_ = {order_id for order_id in wanted if order_id not in found or not _ended(found[order_id])}
        assert not open_, f"{len(open_)} of {len(wanted)} not ended, such as {sorted(open_)[:3]}"
        return True

    await eventually(ended, what="every order has ended", within_s=within_s, poll_s=0.3)


def _ended(history: list[Envelope]) -> bool:
    return fold(history).status in TERMINAL


async def check_everything(stack: Stack, order_ids: Iterable[str]) -> dict[str, list[Envelope]]:
    """All of the above; gives the histories."""
    entries = await whole_log(stack)
    found = histories(entries)
    check_histories(found, order_ids)
    await check_settlements(stack, found)
    await check_projection(stack, entries)
    await check_no_work_left(stack)
    return found


def statuses(found: dict[str, list[Envelope]]) -> Counter[Status]:
    """How many orders ended how."""
    return Counter(fold(history).status for history in found.values())
