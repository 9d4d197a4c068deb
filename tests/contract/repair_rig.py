"""A log on servers, its archive, and every way to lose one by the other."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from redis.asyncio import Redis, RedisCluster

from libs.events.commands import follow, request
from libs.events.ids import new_order_id, partition_of_user
from libs.events.log import Committed, Idempotency, Snapshot
from libs.events.model import Event, OrderCancelled
from libs.events.reactions import EXECUTOR, ROUTER, TERMINAL, next_actor
from libs.events.record import RETIRED_FIELDS
from libs.events.redis_log import RedisLog, open_redis_log
from libs.orders.batch import Batch
from libs.orders.store import OrderStore, open_store
from services.projector.repair import Repair
from tests.builders import (
    an_order_requested,
    attempt_failed,
    route_selected,
    routing_started,
    tx_confirmed,
    tx_submitted,
)

PARTITIONS = 2
USERS = ("user-1", "user-2", "user-3")
LATER = attempt_failed(delay_ms=3_600_000)
# As by a clock that is an hour ahead of Redis'.
LATER = LATER.model_copy(update={"retry_at": datetime.now(UTC) + timedelta(hours=2)})
# One order in each state it can be in.
JOURNEYS: tuple[tuple[Event, ...], ...] = (
    (),
    (routing_started(),),
    (routing_started(), route_selected()),
    (routing_started(), route_selected(), tx_submitted()),
    (routing_started(), route_selected(), tx_submitted(), tx_confirmed()),
    (routing_started(), LATER),
    (OrderCancelled(),),
)

Copy = dict[bytes, tuple[int, bytes]]


@dataclass
class World:
    """A log, its archive, and the one who compares them."""

    url: str
    redis: Any
    raw: Any
    log: RedisLog
    store: OrderStore
    store_url: str
    postgres: asyncpg.Connection

    def repair(self, **options: int) -> Repair:
        return Repair(self.log, self.store, self.store.projection(), **options)

    async def mended(self, **options: int) -> None:
        await self.repair(**options).mend()
        await self.log.start()

    async def archive(self) -> None:
        """Project everything there is."""
        projection = self.store.projection()
        at = await projection.resume(self.log.epoch, PARTITIONS)
        while entries := await self.log.read(at, 100, 0):
            at = await projection.apply(self.log.epoch, Batch(at, entries))

    async def copy(self) -> Copy:
        """Redis as it is now."""
        names = [name async for name in self.raw.scan_iter("*")]
        return {name: (max(0, await self.raw.pttl(name)), await self.raw.dump(name)) for name in names}

    async def bring_back(self, copy: Copy) -> None:
        for name, (ttl_ms, content) in copy.items():
            await self.raw.restore(name, ttl_ms, content)

    async def lose_everything(self) -> None:
        await self.log._redis.send([["FLUSHALL"]])


@asynccontextmanager
async def open_world(url: str, database_url: str, *, clustered: bool) -> AsyncIterator[World]:
    client: Any = RedisCluster if clustered else Redis
    postgres = await asyncpg.connect(database_url)
    await postgres.execute("TRUNCATE events, orders, checkpoints")
    async with (
        client.from_url(url, decode_responses=True) as redis,
        client.from_url(url) as raw,
        open_redis_log(url, PARTITIONS) as log,
        open_store(database_url) as store,
    ):
        made = World(url, redis, raw, log, store, database_url, postgres)
        await made.lose_everything()
        await made.mended()
        yield made
    await postgres.close()


async def an_order(log: RedisLog, user: str, bodies: Sequence[Event] = (), key: str = "") -> Snapshot:
    now = datetime.now(UTC)
    idempotency = Idempotency(key, "print") if key else None
    body = an_order_requested().model_copy(update={"idempotency_key": key or None, "fingerprint": "print"})
    order_id = new_order_id(partition_of_user(user, PARTITIONS))
    step, snapshot = request(body, order_id=order_id, user=user, source="gateway", now=now, idempotency=idempotency)
    assert isinstance(await log.commit(step), Committed)
    for event in bodies:
        snapshot = await gone_on(log, snapshot, event)
    return snapshot


async def gone_on(log: RedisLog, before: Snapshot, event: Event) -> Snapshot:
    """The next step, by whoever has the order's item."""
    items = [item for service in (ROUTER, EXECUTOR) for item in await log.take_pending(service, "w")]
    items += [item for service in (ROUTER, EXECUTOR) for item in await log.take(service, "w", 100, 0)]
    item = next((item for item in items if item.order_id == before.order.id), None)
    if isinstance(event, OrderCancelled):
        item = None
    step, after = follow(before, [event], source="router", now=datetime.now(UTC), item=item)
    assert isinstance(await log.commit(step), Committed)
    return after


async def every_state(log: RedisLog, keys: str = "key") -> list[Snapshot]:
    return [
        await an_order(log, USERS[number % len(USERS)], journey, key=f"{keys}-{number}")
        for number, journey in enumerate(JOURNEYS)
    ]


async def remembered(world: World) -> dict[str, Any]:
    """All that Redis holds, but what names a log, a run or an item."""
    found: dict[str, Any] = {}
    async for name in world.redis.scan_iter("orders:*"):
        match await world.redis.type(name):
            case "hash":
                value: Any = as_let_go(await world.redis.hgetall(name))
            case "zset":
                value = await world.redis.zrange(name, 0, -1)
            case "set":
                value = await world.redis.smembers(name)
            case _:
                rows = await world.redis.xrange(name)
                value = await waiting(world, name, rows) if ":work:" in name else rows
        if name.endswith(":meta"):
            value = {field: value[field] for field in ("position", "layout")}
        if not name.endswith(":readers"):
            found[name] = (value, await world.redis.ttl(name) > 0)
    return found


def as_let_go(fields: dict[str, str]) -> dict[str, str]:
    """An order that has ended as it is a minute later, as which it comes back."""
    ended = fields.get("status") in {status.value for status in TERMINAL}
    return {name: fields[name] for name in RETIRED_FIELDS} if ended else fields


async def waiting(world: World, work: str, rows: Sequence[tuple[str, dict[str, str]]]) -> list[str]:
    """Orders with an item that still asks for something: an item keeps what it first carried, an ended order's goes."""
    orders = [fields["subject"] for _, fields in rows]
    held = await world.log.find_many(orders)
    return sorted(order for order in orders if work.endswith(f":{next_actor(held[order].event.data)}"))
