"""What Redis lost comes back from the archive as it was: facts with their ids, and all that follows from them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis, RedisCluster

from libs.events.commands import follow, request
from libs.events.errors import LogReplaced, LogUnavailable
from libs.events.ids import START, new_order_id, partition_of, partition_of_user
from libs.events.log import Committed, Duplicate, Idempotency, Snapshot
from libs.events.model import Event, OrderCancelled
from libs.events.reactions import EXECUTOR, ROUTER, next_actor
from libs.events.redis_keys import Keys
from libs.events.redis_log import RedisLog, open_redis_log
from libs.events.redis_repair import RedisRepair
from libs.events.repair import layout_of
from libs.orders.batch import Batch
from libs.orders.store import OrderStore, StoreUnavailable, open_store
from services.projector import repair
from services.projector.repair import Repair
from services.projector.verdict import Diverged, Unreachable
from tests.builders import (
    an_order_requested,
    attempt_failed,
    route_selected,
    routing_started,
    tx_confirmed,
    tx_submitted,
)
from tests.waiting import eventually

PARTITIONS = 2
USERS = ("user-1", "user-2", "user-3")
POINTS = (
    "repair.adopt.before",
    "repair.adopt.after",
    "repair.orders.after",
    "repair.append.after",
    "repair.open.before",
)
LATER = attempt_failed(delay_ms=3_600_000)
LATER = LATER.model_copy(update={"retry_at": datetime.now(UTC) + timedelta(hours=1)})
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


@pytest.fixture(params=["redis", "cluster"])
def world_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def world(request: pytest.FixtureRequest, world_url: str, database_url: str) -> AsyncIterator[World]:
    client: Any = RedisCluster if "cluster" in request.node.callspec.id else Redis
    postgres = await asyncpg.connect(database_url)
    await postgres.execute("TRUNCATE events, orders, checkpoints")
    async with (
        client.from_url(world_url, decode_responses=True) as redis,
        client.from_url(world_url) as raw,
        open_redis_log(world_url, PARTITIONS) as log,
        open_store(database_url) as store,
    ):
        made = World(world_url, redis, raw, log, store, database_url, postgres)
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
                value: Any = await world.redis.hgetall(name)
            case "zset":
                value = await world.redis.zrange(name, 0, -1)
            case _:
                rows = await world.redis.xrange(name)
                value = await waiting(world, name, rows) if ":work:" in name else rows
        if name.endswith(":meta"):
            value = {field: value[field] for field in ("position", "layout")}
        if not name.endswith(":readers"):
            found[name] = (value, await world.redis.ttl(name) > 0)
    return found


async def waiting(world: World, work: str, rows: Sequence[tuple[str, dict[str, str]]]) -> list[str]:
    """Orders with an item that still asks for something: an item keeps what it first carried, an ended order's goes."""
    orders = [fields["subject"] for _, fields in rows]
    held = await world.log.find_many(orders)
    return sorted(order for order in orders if work.endswith(f":{next_actor(held[order].event.data)}"))


async def test_everything_comes_back_as_it_was(world: World) -> None:
    await every_state(world.log)
    await world.archive()
    before, epoch = await remembered(world), world.log.epoch
    await world.lose_everything()

    await world.mended()
    assert await remembered(world) == before
    assert world.log.epoch != epoch
    [[(_, due)]] = [
        found
        for partition in range(PARTITIONS)
        if (found := await world.redis.zrange(Keys(partition).timers, 0, -1, withscores=True))
    ]
    assert due == int(LATER.retry_at.timestamp() * 1_000)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("copy_is", ["empty", "old"])
async def test_a_repair_cut_short_is_begun_anew(
    world: World, point: str, copy_is: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await an_order(world.log, "user-2", JOURNEYS[3])
    old = await world.copy() if copy_is == "old" else {}
    await every_state(world.log)
    await world.archive()
    before = await remembered(world)
    await world.lose_everything()
    await world.bring_back(old)

    class Crashed(Exception):
        pass

    def crash(name: str) -> None:
        if name == point:
            raise Crashed

    with monkeypatch.context() as patch:
        patch.setattr(repair, "crash_point", crash)
        with pytest.raises(Crashed):
            await world.mended()
        with pytest.raises((LogUnavailable, LogReplaced)):
            await an_order(world.log, "user-1")
    await world.mended()
    assert await remembered(world) == before


async def test_a_log_kept_by_an_earlier_release_is_brought_up_to_date(world: World) -> None:
    [_, open_order, *_] = await every_state(world.log)
    await world.archive()
    held, epoch = await world.log.find(open_order.order.id), world.log.epoch
    for partition in range(PARTITIONS):
        await world.redis.hset(Keys(partition).meta, "layout", layout_of(PARTITIONS, "1"))
    async for name in world.redis.scan_iter("orders:*:order:*"):
        await world.redis.hset(name, mapping={"state": "{}", "type": "OrderRequested"})
    with pytest.raises(LogUnavailable, match="earlier release"):
        await world.log.start()

    await world.mended()
    assert world.log.epoch != epoch
    assert held is not None
    assert await world.log.find(open_order.order.id) == held
    await gone_on(world.log, held, route_selected())


async def test_every_prefix_of_the_log_grows_to_the_whole(world: World) -> None:
    """Whatever was last written before Redis lost its memory: the same log comes out."""
    copies: list[Copy] = []
    snapshots: list[Snapshot] = []
    for journey in JOURNEYS:
        copies.append(await world.copy())
        snapshots.append(await an_order(world.log, "user-1", journey, key=f"key-{len(copies)}"))
    await world.archive()
    before = await remembered(world)
    for copy in copies:
        await world.lose_everything()
        await world.bring_back(copy)
        await world.mended()
        assert await remembered(world) == before


async def test_keys_of_the_last_day_still_answer(world: World) -> None:
    made = await an_order(world.log, "user-1", key="key-1")
    await world.archive()
    await world.lose_everything()
    await world.mended()
    body = an_order_requested().model_copy(update={"idempotency_key": "key-1", "fingerprint": "print"})
    step, _ = request(
        body,
        order_id=new_order_id(partition_of_user("user-1", PARTITIONS)),
        user="user-1",
        source="gateway",
        now=datetime.now(UTC),
        idempotency=Idempotency("key-1", "print"),
    )
    assert await world.log.commit(step) == Duplicate(made.order.id, "print")


@pytest.mark.parametrize("keeps_all", [True, False])
async def test_writers_stay_out_until_the_log_was_checked(
    world: World, keeps_all: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told(_: RedisRepair) -> bool:
        return keeps_all

    monkeypatch.setattr(RedisRepair, "keeps_all", told)
    await an_order(world.log, "user-1")
    await world.archive()
    for partition in range(PARTITIONS):
        await world.redis.hset(Keys(partition).meta, "run", "the run before")
    before = await remembered(world)
    with pytest.raises(LogUnavailable):
        await an_order(world.log, "user-1")
    with pytest.raises(LogUnavailable):
        await world.log.start()
    assert await remembered(world) == before
    epoch = world.log.epoch

    await world.mended()
    assert (world.log.epoch == epoch) is keeps_all, "the same log only where nothing can have been lost"
    assert await remembered(world) == before
    await an_order(world.log, "user-1")


async def test_a_group_that_was_destroyed_and_items_that_were_deleted_are_made_again(world: World) -> None:
    made = await every_state(world.log)
    await world.archive()
    before = await remembered(world)
    partition = partition_of(made[0].order.id)
    work = Keys(partition).work(ROUTER)
    await world.log.take(ROUTER, "a", 100, 0)
    await world.redis.xtrim(work, maxlen=0, approximate=False)
    assert await world.log.take_pending(ROUTER, "a") == [] or partition != partition_of(made[1].order.id)
    with suppress(LogUnavailable):
        await world.log.claim(ROUTER, "b", 0)
    with pytest.raises(LogUnavailable):
        await an_order(world.log, USERS[0])
    await world.mended()
    assert await remembered(world) == before

    await world.redis.xgroup_destroy(work, ROUTER)
    with suppress(LogUnavailable):  # of a cluster the other partitions are read
        await world.log.take(ROUTER, "a", 100, 0)
    with pytest.raises(LogUnavailable):
        await an_order(world.log, USERS[0])
    await world.mended()
    assert await remembered(world) == before


async def test_what_was_read_before_a_loss_is_not_told_of_the_log_after_it(world: World) -> None:
    """On a cluster a read of one partition may end long before somebody asks for it."""
    seen = dict.fromkeys(range(PARTITIONS), START)
    names = [f"user-{number}" for number in range(20)]
    first, lost = (next(n for n in names if partition_of_user(n, PARTITIONS) == part) for part in range(PARTITIONS))
    reading = asyncio.create_task(world.log.read(seen, 100, 900))
    await asyncio.sleep(0.1)
    await an_order(world.log, first)
    assert {entry.partition for entry in await reading} == {0}
    await an_order(world.log, lost)
    await asyncio.sleep(0.1)
    await world.lose_everything()
    await world.mended()
    assert await world.log.read(seen, 100, 900) == []


async def test_a_glance_sees_that_the_log_was_replaced(world: World) -> None:
    await an_order(world.log, "user-1")
    await world.archive()
    at = {partition: await world.log.tip(partition) for partition in range(PARTITIONS)}
    await world.repair().glance(at)
    await world.lose_everything()
    with pytest.raises(LogReplaced):
        await world.repair().glance(at)


async def test_postgres_from_an_old_backup_catches_up(world: World) -> None:
    old = await every_state(world.log)
    await world.archive()
    tables = {name: await world.postgres.fetch(f"TABLE {name}") for name in ("events", "orders", "checkpoints")}
    await every_state(world.log, "another")
    await world.archive()
    await world.postgres.execute("TRUNCATE events, orders, checkpoints")
    for name, rows in tables.items():
        await world.postgres.copy_records_to_table(
            name, records=[tuple(row) for row in rows], columns=list(rows[0].keys())
        )

    await world.mended()
    await world.archive()
    assert await world.postgres.fetchval("SELECT count(*) FROM orders") == 2 * len(old)
    for partition in range(PARTITIONS):
        logged = await world.redis.xlen(Keys(partition).log)
        assert len(await world.store.archived(partition, 0, 1_000)) == logged


async def test_two_stories_are_never_mixed(world: World) -> None:
    await an_order(world.log, "user-1")
    await world.archive()
    await world.lose_everything()
    await world.log.start(create=True)
    await an_order(world.log, "user-1")
    before = await remembered(world)
    with pytest.raises(Diverged):
        await world.mended()
    assert await remembered(world) == before


async def test_an_archive_the_log_was_trimmed_beyond_is_told(world: World) -> None:
    for _ in range(3):
        made = await an_order(world.log, "user-1")
    await world.redis.xtrim(Keys(partition_of(made.order.id)).log, maxlen=1, approximate=False)
    with pytest.raises(Unreachable, match="Restore a backup"):
        await world.mended()


async def test_of_a_long_log_only_the_newest_entries_come_back(world: World) -> None:
    for _ in range(8):
        made = await an_order(world.log, "user-1")
    await world.archive()
    log = Keys(partition_of(made.order.id)).log
    await world.lose_everything()
    await world.mended(window=3)
    assert await world.redis.xlen(log) == 3
    after = await an_order(world.log, "user-1")
    tip = await world.log.tip(partition_of(after.order.id))
    assert tip.position == 9, "no position is used twice"


async def test_a_partition_that_is_whole_is_written_to_until_the_log_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await every_state(world.log)
    await world.archive()
    await world.redis.delete(Keys(0).meta)
    whole = next(user for user in map(str, range(100)) if partition_of_user(user, PARTITIONS) == 1)
    mender = world.repair()
    close = mender._redis.close

    async def at_the_last_moment() -> Any:
        await an_order(world.log, whole, JOURNEYS[1])
        return await close()

    monkeypatch.setattr(mender._redis, "close", at_the_last_moment)
    await mender.mend()
    await world.log.start()
    await an_order(world.log, whole, JOURNEYS[1])
    await world.archive()
    for partition in range(PARTITIONS):
        rows = await world.redis.xrange(Keys(partition).log)
        assert [int(at.partition("-")[2]) for at, _ in rows] == list(range(1, len(rows) + 1))


async def test_who_was_frozen_in_the_middle_of_a_repair_undoes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await an_order(world.log, "user-1", JOURNEYS[1])
    await world.archive()
    await world.lose_everything()
    frozen, thawed = asyncio.Event(), asyncio.Event()
    late = world.repair()
    remake = late._redis.remake_orders

    async def freeze(*given: Any) -> None:
        frozen.set()
        await thawed.wait()
        await remake(*given)

    monkeypatch.setattr(late._redis, "remake_orders", freeze)
    mending = asyncio.create_task(late.mend())
    await frozen.wait()
    async with open_redis_log(world.url, PARTITIONS) as log, open_store(world.store_url) as store:
        with pytest.raises(StoreUnavailable, match="another projector"):
            await Repair(log, store, store.projection()).mend()
        await world.postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await mended_by(Repair(log, store, store.projection()))
        await log.start()
        await gone_on(log, made, route_selected())
        before = await remembered(world)
        thawed.set()
        with pytest.raises((LogUnavailable, StoreUnavailable)):
            await mending
        assert await remembered(world) == before
        await log.start()


async def mended_by(mender: Repair) -> None:
    """Postgres takes a moment to see that a session is over."""

    async def done() -> bool:
        with suppress(StoreUnavailable):
            await mender.mend()
            return True
        return False

    await eventually(done, what="the other one mends")


async def test_an_item_parked_for_what_is_in_it_stops_no_repair(world: World) -> None:
    await every_state(world.log)
    await world.archive()
    before = await remembered(world)
    for number in range(PARTITIONS):
        for fields in ({"subject": "x"}, {"subject": "x", "version": "many"}, {"version": "1"}):
            told = {"service": ROUTER, "item": "1-0", "reason": "no", "deliveries": "1", "fingerprint": "f"}
            await world.redis.xadd(Keys(number).parked, {**told, **fields})
        await world.redis.xgroup_destroy(Keys(number).work(ROUTER), ROUTER)
    with pytest.raises(LogUnavailable):
        await world.log.take(ROUTER, "a", 100, 0)
    await world.mended()
    now = await remembered(world)
    assert {name: held for name, held in now.items() if ":parked" not in name} == before


async def test_entries_taken_off_the_end_are_put_back(world: World) -> None:
    await every_state(world.log)
    await world.archive()
    before = await remembered(world)
    for partition in range(PARTITIONS):
        rows = await world.redis.xrevrange(Keys(partition).log, count=3)
        for at, _ in rows:
            await world.redis.xdel(Keys(partition).log, at)
    await world.mended()
    assert await remembered(world) == before
    await an_order(world.log, "user-1")


async def test_what_is_nowhere_any_more_leaves_nothing_behind(world: World) -> None:
    """The log is deleted before all of it was archived: no hash, key or list tells of orders nobody can show."""
    await every_state(world.log)
    await world.archive()
    before = await remembered(world)
    await every_state(world.log, "another")
    for partition in range(PARTITIONS):
        await world.redis.delete(Keys(partition).log)
    await world.mended()
    assert await remembered(world) == before
