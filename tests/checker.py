"""Collects everything a running system holds, for `tests.verdict` to judge."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import aiohttp

from deploy.local.stack import Stack
from libs.events.envelope import Envelope
from libs.events.ids import START
from libs.events.log import Entry
from libs.events.model import Status
from libs.events.order import Order
from libs.events.reactions import WORKERS
from libs.events.redis_log import open_redis_log
from libs.events.redis_nodes import ask
from libs.orders.store import OrderStore, open_store
from tests.verdict import Evidence, Transcript, fold, judge, kept, open_orders
from tests.waiting import eventually

PAGE = 1_000
ASKED_AT_ONCE = 32


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


async def settled_by_order(stack: Stack, order_ids: Iterable[str]) -> dict[str, list[str]]:
    """What the chain executed without error, by the order it was for."""
    url = f"http://127.0.0.1:{stack.ports.localnet}/admin/settled"
    found: dict[str, list[str]] = {}
    gate = asyncio.Semaphore(ASKED_AT_ONCE)

    async def ask(session: aiohttp.ClientSession, order_id: str) -> None:
        async with gate, session.get(url, params={"reference": order_id}) as answer:
            found[order_id] = [tx["signature"] for tx in await answer.json() if tx["err"] is None]

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for order_id in order_ids:
            group.create_task(ask(session, order_id))
    return found


async def archived(store: OrderStore, tips: Mapping[int, int]) -> list[Entry]:
    """The whole archive, once the projector has caught up with these positions."""

    async def caught_up() -> bool:
        held = await store.checkpoints()
        return all(held[partition].at.position >= count for partition, count in tips.items())

    await eventually(caught_up, what="the projector has caught up", within_s=240)
    entries: list[Entry] = []
    for partition in sorted(tips):
        after = 0
        while page := await store.archived(partition, after, PAGE):
            entries, after = entries + page, after + len(page)
    return entries


async def projected(store: OrderStore, order_ids: Sequence[str]) -> dict[str, Order]:
    """What Postgres says of these orders."""
    found: dict[str, Order] = {}
    for begin in range(0, len(order_ids), PAGE):
        found |= await store.get_many(order_ids[begin : begin + PAGE])
    return found


async def collect(
    stack: Stack,
    promised: Mapping[str, str],
    contradictions: Sequence[str] = (),
    transcripts: Sequence[Transcript] = (),
) -> Evidence:
    """All there is, once everything that was asked for has ended. `promised` is order id by key."""
    entries = await whole_log(stack)
    orders = sorted(histories(entries))
    async with open_store(stack.database_url) as store:
        return Evidence(
            entries=entries,
            promised=promised,
            contradictions=contradictions,
            settled=await settled_by_order(stack, orders),
            archived=await archived(store, Counter(entry.partition for entry in entries)),
            projected=await projected(store, orders),
            transcripts=transcripts,
        )


async def check_no_work_left(stack: Stack) -> None:
    """Every order has ended, so nobody has anything to do, nothing was set aside, and no user's counts as open."""
    async with open_redis_log(stack.redis_url, stack.settings.partitions) as log:

        async def nothing_left() -> bool:
            return not any([await log.backlog(service) for service in WORKERS])

        await eventually(nothing_left, what="empty backlogs")
        assert await log.parked() == []
        counted = await ask(log._redis, [["KEYS", keys.open("*")] for keys in log._keys])
        assert counted == [[]] * len(log._keys), "what a user may place is bounded by what is in these"


async def all_terminal(stack: Stack, order_ids: Iterable[str], within_s: float = 240) -> None:
    """Wait until every order has ended."""
    wanted = set(order_ids)

    async def ended() -> bool:
        left = open_orders(histories(await whole_log(stack)), wanted)
        assert not left, f"{len(left)} of {len(wanted)} not ended, such as {left[:3]}"
        return True

    await eventually(ended, what="every order has ended", within_s=within_s, poll_s=0.3)


async def check_everything(stack: Stack, order_ids: Iterable[str]) -> dict[str, list[Envelope]]:
    """Every promise was kept; gives the histories."""
    evidence = await collect(stack, {order_id: order_id for order_id in order_ids})
    verdict = judge(evidence)
    assert kept(verdict), {promise: broken[:5] for promise, broken in verdict.items() if broken}
    await check_no_work_left(stack)
    return histories(evidence.entries)


def statuses(found: dict[str, list[Envelope]]) -> Counter[Status]:
    """How many orders ended how."""
    return Counter(fold(history).status for history in found.values())
