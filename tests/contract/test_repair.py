"""What Redis lost comes back from the archive as it was: facts with their ids, and all that follows from them."""

import asyncio
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from libs.events.commands import request
from libs.events.errors import LogReplaced, LogUnavailable, PositionGap
from libs.events.ids import START, new_order_id, partition_of, partition_of_user
from libs.events.log import Duplicate, Idempotency, Snapshot
from libs.events.model import OrderCancelled
from libs.events.reactions import ROUTER
from libs.events.redis_keys import Keys
from libs.events.redis_repair import RedisRepair
from libs.events.repair import layout_of
from services.projector.verdict import Diverged, Unreachable
from tests.builders import (
    an_order_requested,
    route_selected,
    routing_started,
)
from tests.contract.repair_rig import (
    JOURNEYS,
    PARTITIONS,
    USERS,
    Copy,
    World,
    an_order,
    every_state,
    gone_on,
    remembered,
)

PAGE = Path(__file__).parents[2] / "docs" / "integrators.md"


async def test_everything_comes_back_as_it_was(world: World) -> None:
    await every_state(world.log)
    await world.archive()
    before, epoch = await remembered(world), world.log.epoch
    timers = await timers_of(world)
    assert sum(map(len, timers)) == 1
    await world.lose_everything()

    await world.mended()
    assert await remembered(world) == before
    assert world.log.epoch != epoch
    assert await timers_of(world) == timers


async def test_the_page_tells_how_far_what_was_read_before_a_repair_still_stands(world: World) -> None:
    (asked,) = re.findall(r"^SELECT ms .*;$", PAGE.read_text(), re.MULTILINE)
    order, epoch = await an_order(world.log, USERS[0]), world.log.epoch
    partition = partition_of(order.order.id)
    asked = asked.replace("= 3", f"= {partition}").replace("the epoch of your cursor", epoch)
    await world.archive()
    stream = Keys(partition).log
    archived = await world.redis.xrange(stream)
    lost = await gone_on(world.log, order, routing_started())
    assert lost.order.version == order.order.version + 1, "somebody reads it now"
    await world.lose_everything()
    await world.mended()
    await gone_on(world.log, order, OrderCancelled())
    await world.archive()

    found = await world.postgres.fetchval(asked)
    assert world.log.epoch != epoch
    assert await world.redis.xrange(stream, max=found) == archived
    ((_, other),) = await world.redis.xrange(stream, min=f"({found}")
    assert other["type"] == "OrderCancelled"
    assert other["id"] == f"{order.order.id}/{lost.order.version}"


async def timers_of(world: World) -> list[Any]:
    return [await world.redis.zrange(Keys(each).timers, 0, -1, withscores=True) for each in range(PARTITIONS)]


async def test_a_log_kept_by_an_earlier_release_is_brought_up_to_date(world: World) -> None:
    [_, open_order, *_] = await every_state(world.log)
    await world.archive()
    before = await remembered(world)
    held, epoch = await world.log.find(open_order.order.id), world.log.epoch
    for partition in range(PARTITIONS):
        await world.redis.hset(Keys(partition).meta, "layout", layout_of(PARTITIONS, "1"))
    async for name in world.redis.scan_iter("orders:*:order:*"):
        await world.redis.hset(name, mapping={"state": "{}", "type": "OrderRequested"})
    with pytest.raises(LogUnavailable, match="earlier release"):
        await world.log.start()

    with capture_logs() as said:
        await world.mended()
    assert not [line for line in said if line["log_level"] == "error"], "nothing is lost"
    assert world.log.epoch != epoch
    assert await remembered(world) == before, "keys, lists and ended orders of the last day, too"
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
async def test_a_group_that_was_destroyed_and_items_that_were_deleted_are_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch, keeps_all: bool
) -> None:
    async def told(_: object) -> bool:
        return keeps_all

    monkeypatch.setattr(RedisRepair, "keeps_all", told)
    made = await every_state(world.log)
    await world.archive()
    await an_order(world.log, USERS[0])  # which only the log has yet
    before, epoch = await remembered(world), world.log.epoch
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
    assert (world.log.epoch == epoch) == keeps_all, "who listens starts over only where facts may be missing"

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
    await asyncio.sleep(0.1)  # its reads are under way, and tell nobody so
    await an_order(world.log, first)
    assert {entry.partition for entry in await reading} == {0}
    await an_order(world.log, lost)
    await asyncio.sleep(0.1)  # the read of its partition ended, unasked for
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


async def test_an_entry_taken_out_of_the_midst_is_put_back(world: World) -> None:
    await every_state(world.log)
    await world.archive()
    before = await remembered(world)
    ends = {partition: await world.log.tip(partition) for partition in range(PARTITIONS)}
    logs = [Keys(partition_of_user(user, PARTITIONS)).log for user in USERS]
    for log in set(logs):
        _, (at, _), *_ = await world.redis.xrange(log)
        await world.redis.xdel(log, at)
    with pytest.raises(LogReplaced, match="entries"):
        await world.repair().glance(ends)
    await world.mended()
    assert await remembered(world) == before
    await an_order(world.log, "user-1")


async def test_an_entry_that_only_the_log_had_and_that_was_taken_out_is_told(world: World) -> None:
    """The archive cannot go on over it, and nothing is made up."""
    made = await an_order(world.log, "user-1")
    await world.archive()
    for _ in range(3):
        await an_order(world.log, "user-1")
    log = Keys(partition_of(made.order.id)).log
    rows = await world.redis.xrange(log)
    await world.redis.xdel(log, rows[-2][0])
    with pytest.raises(PositionGap):
        await world.mended()


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
