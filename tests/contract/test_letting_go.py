"""An order that ended is let go: the log forgets what it was, never that it was."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from libs.events.ids import START, partition_of
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
    assert [entry.fields["version"] for entry in await log.history(now.order.id)] == ["1", "2"]
    assert await place(log, asked) is None, "to whoever asks again after a lost reply it is his order"


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


async def test_an_ended_order_takes_little_memory(redis_url: str) -> None:
    async with new_redis_log(redis_url, PARTITIONS) as log:
        _, now = await ended(log)
        key = log._keys[partition_of(now.order.id)].order(now.order.id)
        # Of every field: by default the server weighs five and multiplies, and which five differs from run to run.
        look: list[list[Any]] = [["MEMORY", "USAGE", key, "SAMPLES", 0], ["HGETALL", key]]
        before, fields = await log._redis.send(look)
        await log.retire([now.order.id])
        after, left = await log._redis.send(look)
        assert set(left[::2]) == RETIRED_FIELDS
        # What a server needs for a hash as such is its own affair; the texts that are gone must be given back.
        assert before - after >= sum(map(len, fields)) - sum(map(len, left))


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
        assert len(await world.log.history(one.order.id)) == one.order.version
