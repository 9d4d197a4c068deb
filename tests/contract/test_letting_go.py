"""An order that ended is let go: the log forgets what it was, never that it was."""

from collections.abc import AsyncIterator

import pytest

from libs.events.ids import START, Position, partition_of
from libs.events.log import Committed, Conflict, Snapshot, Step
from libs.events.memory_log import MemoryLog
from libs.events.model import OrderCancelled
from libs.events.reactions import TERMINAL
from libs.events.record import RETIRED_FIELDS
from libs.events.redis_keys import Keys
from libs.events.redis_log import RedisLog
from services.gateway.commands import place
from services.projector import janitor
from services.projector.janitor import Janitor
from tests.builders import a_request, then
from tests.contract.event_log_rig import new_log, new_redis_log
from tests.contract.repair_rig import World, every_state

PARTITIONS = 2

AnyLog = MemoryLog | RedisLog


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[AnyLog]:
    async with new_log(log_url, PARTITIONS) as made:
        yield made


async def ended(log: AnyLog) -> tuple[Step, Snapshot]:
    asked, now = a_request(PARTITIONS)
    assert isinstance(await log.commit(asked), Committed)
    step, now = then(now, OrderCancelled(), source="gateway")
    assert isinstance(await log.commit(step), Committed)
    return asked, now


async def test_an_ended_order_is_let_go_and_can_not_be_made_again(log: AnyLog) -> None:
    asked, now = await ended(log)
    await log.retire([now.order.id])
    assert await log.find(now.order.id) is None
    assert await log.version(now.order.id) == 2
    changed = str.maketrans("0123456789abcdef", "123456789abcdef0")
    another = f"{now.order.id[:-5]}{now.order.id[-5:-3].translate(changed)}{now.order.id[-3:]}"
    assert await log.version(another) == 0
    assert await log.commit(asked) == Conflict(None)
    assert await log.history(now.order.id) == []
    assert await place(log, asked) is None, "to whoever asks again after a lost reply it is his order"


async def test_entries_of_an_order_that_was_let_go_are_found_by_their_positions(
    log: AnyLog,
) -> None:
    _, now = await ended(log)
    entries = await log.history(now.order.id)
    assert [entry.fields["version"] for entry in entries] == ["1", "2"]
    await log.retire([now.order.id])
    at = [entry.at for entry in entries]
    partition = partition_of(now.order.id)
    beyond = Position(at[-1].ms, at[-1].position + 1)
    assert await log.entries_at(partition, [*at, beyond]) == entries
    assert await log.entries_at(partition, at[::-1]) == entries[::-1]


async def test_the_item_of_an_order_that_was_let_go_is_given_back(log: AnyLog) -> None:
    """A cancel leaves the item where it is, and nobody may come for it before the order is let go."""
    _, now = await ended(log)
    await log.retire([now.order.id])
    [item] = await log.take("router", "a", 8, 0)
    assert isinstance(await log.commit(Step(item.order_id, "", await log.version(item.order_id), item=item)), Committed)
    assert await log.backlog("router") == 0


async def test_only_ended_orders_are_let_go_and_not_at_once(log: AnyLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "SWEEP_EVERY_S", 0)
    _, done = await ended(log)
    asked, going = a_request(PARTITIONS)
    await log.commit(asked)
    sweeper = Janitor(log, keep_s=3_600, memory_max_bytes=10**15)
    sweeper.archived(await log.read(dict.fromkeys(range(PARTITIONS), START), 100, 0))
    await sweeper.sweep({})
    assert await log.find(done.order.id) == done
    monkeypatch.setattr(janitor, "ENDED_KEPT_S", -1)
    sweeper = Janitor(log, keep_s=3_600, memory_max_bytes=10**15)
    sweeper.archived(await log.read(dict.fromkeys(range(PARTITIONS), START), 100, 0))
    await sweeper.sweep({})
    assert await log.find(done.order.id) is None
    assert await log.find(going.order.id) == going


async def test_an_ended_order_takes_as_little_memory_as_if_it_had_never_been_more(redis_url: str) -> None:
    async with new_redis_log(redis_url, PARTITIONS) as log:
        _, now = await ended(log)
        key = log._keys[partition_of(now.order.id)].order(now.order.id)
        fresh = key[::-1]
        await log._redis.send([["HSET", fresh, "version", now.order.version], ["EXPIRE", fresh, 86_400]])
        await log.retire([now.order.id])
        left, took, least, expires_ms = await log._redis.send(
            [["HGETALL", key], ["MEMORY", "USAGE", key], ["MEMORY", "USAGE", fresh], ["PTTL", key]]
        )
        assert set(left[::2]) == RETIRED_FIELDS
        assert took == least
        assert 0 < expires_ms <= 86_400_000


async def test_orders_are_let_go_of_a_redis_that_is_full_and_keep_their_versions(redis_url: str) -> None:
    async with new_redis_log(redis_url, PARTITIONS) as log:
        asked, now = await ended(log)
        await log._redis.send([["CONFIG", "SET", "maxmemory", 1]])
        try:
            await log.retire([now.order.id])
        finally:
            await log._redis.send([["CONFIG", "SET", "maxmemory", 0]])
        assert await log.find(now.order.id) is None
        assert await log.commit(asked) == Conflict(None)


async def test_what_an_earlier_release_left_of_an_ended_order_is_understood(redis_url: str) -> None:
    async with new_redis_log(redis_url, PARTITIONS) as log:
        asked, now = await ended(log)
        key = log._keys[partition_of(now.order.id)].order(now.order.id)
        [fields] = await log._redis.send([["HKEYS", key]])
        others = [name for name in fields if name not in {"version", "trail"}]
        await log._redis.send([["HDEL", key, *others]])
        assert await log.find(now.order.id) is None
        assert await log.commit(asked) == Conflict(None)
        await log.retire([now.order.id])
        assert await log.version(now.order.id) == now.order.version


async def test_an_order_that_had_ended_comes_back_from_the_archive_as_let_go(world: World) -> None:
    """All of a day's as they were before would fill Redis, and no order be taken until they expire."""
    gone = [one for one in await every_state(world.log) if one.order.status in TERMINAL]
    await world.archive()
    await world.lose_everything()
    await world.mended()
    assert len(gone) == 2
    for one in gone:
        held = await world.redis.hgetall(Keys(partition_of(one.order.id)).order(one.order.id))
        assert held.keys() == RETIRED_FIELDS
        assert await world.log.version(one.order.id) == one.order.version
        assert len(await world.store.entries(one.order.id)) == one.order.version
