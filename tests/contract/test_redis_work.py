"""What the work over Redis promises beyond that of every log: nothing is done where Redis may have lost something."""

from functools import partial

import pytest

from libs.events.errors import LogNotOpen
from libs.events.log import Committed, Snapshot
from libs.events.reactions import ROUTER
from libs.events.redis_keys import Keys
from libs.events.redis_log import RedisLog
from libs.events.work import Item
from tests.builders import attempt_failed, routing_started, then
from tests.contract.event_log_rig import one_item, requested
from tests.waiting import eventually


async def in_doubt(log: RedisLog, *partitions: int) -> None:
    """As after a start of Redis, until the projector has looked what it may have lost."""
    await log._redis.send([["HSET", Keys(partition).meta, "run", "of before"] for partition in partitions])


async def all_of(log: RedisLog) -> dict[str, object]:
    names = sorted((await log._redis.send([["KEYS", "*"]]))[0])
    return dict(zip(names, await log._redis.send([["DUMP", name] for name in names]), strict=True))


async def due(log: RedisLog, user: str) -> Snapshot:
    made = await requested(log, user)
    step, now = then(made, routing_started(), attempt_failed(delay_ms=0), item=await one_item(log))
    assert isinstance(await log.commit(step), Committed)
    return now


async def test_no_item_is_moved_while_redis_may_have_lost_something(redis_log: RedisLog) -> None:
    await requested(redis_log)
    item = await one_item(redis_log)
    assert await redis_log.park(item, "no", "f1")
    [parked] = await redis_log.parked()
    await due(redis_log, "user-1")
    await requested(redis_log)
    in_hand = await one_item(redis_log)
    await in_doubt(redis_log, *range(redis_log.partitions))
    before = await all_of(redis_log)

    moves = (
        partial(redis_log.park, in_hand, "no", "f2"),
        partial(redis_log.redrive, parked),
        partial(redis_log.discard, parked, "mara", "given up"),
        redis_log.move_due,
    )
    for move in moves:
        with pytest.raises(LogNotOpen):
            await move()
    assert await all_of(redis_log) == before


async def test_a_partition_in_doubt_holds_up_no_retry_of_another(redis_log: RedisLog) -> None:
    held_up, moved = await due(redis_log, "user-1"), await due(redis_log, "user-2")
    partitions = [int(now.order.id[-3:], 16) for now in (held_up, moved)]
    assert partitions[0] != partitions[1]
    await in_doubt(redis_log, partitions[0])
    assert await redis_log.move_due() == 1
    assert (await one_item(redis_log)).order_id == moved.order.id


async def test_an_item_whose_entry_is_gone_is_not_handed_out_and_its_partition_is_looked_at(
    redis_log: RedisLog,
) -> None:
    """Nobody can act on it, and its order would wait for ever: the projector makes all work there again."""
    made = [await requested(redis_log) for _ in range(3)]
    items: list[Item] = await eventually(lambda: redis_log.take(ROUTER, "a", 16, 100))
    keys = Keys(items[1].partition)
    await redis_log._redis.send([["XDEL", keys.work(ROUTER), items[1].id]])

    back = await redis_log.take_pending(ROUTER, "a")
    assert [item.order_id for item in back] == [made[0].order.id, made[2].order.id]
    assert await redis_log._redis.send([["HEXISTS", keys.meta, "run"]]) == [0]
    [(pending, *_)] = await redis_log._redis.send([["XPENDING", keys.work(ROUTER), ROUTER]])
    assert pending == 2
