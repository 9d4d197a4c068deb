"""Entries in the log that are nobody's events: they go, and nothing that was committed goes with them."""

import pytest

from libs.events.errors import LogReplaced
from libs.events.ids import partition_of_user
from libs.events.redis_keys import Keys
from tests.contract.repair_rig import PARTITIONS, USERS, World, an_order, every_state

STREAM = Keys(partition_of_user(USERS[0], PARTITIONS)).log


async def write_by_hand(world: World, *, copied: bool = False) -> str:
    """As with redis-cli; in a millisecond of its own, because within one Redis numbers entries on."""
    fields = {"hello": b"\xffworld"}
    if copied:
        fields = (await world.raw.xrange(STREAM, count=1))[0][1]
    ((last_id, _),) = await world.raw.xrevrange(STREAM, count=1)
    await after(world, last_id.decode())
    entry_id = str(await world.redis.xadd(STREAM, fields))
    await after(world, entry_id)
    return entry_id


async def after(world: World, entry_id: str) -> None:
    written_ms = int(entry_id.partition("-")[0])
    while (now := await world.redis.time()) and now[0] * 1_000 + now[1] // 1_000 <= written_ms:
        pass


@pytest.mark.parametrize("archived", [True, False], ids=["archived", "not archived"])
@pytest.mark.parametrize("copied", [False, True], ids=["nonsense", "an event once more"])
@pytest.mark.parametrize("later", [True, False], ids=["orders come after", "the last entry"])
async def test_what_somebody_wrote_by_hand_goes_and_nothing_else_does(
    world: World, archived: bool, later: bool, copied: bool
) -> None:
    await every_state(world.log)
    if archived:
        await world.archive()
    strangers = {(await write_by_hand(world, copied=copied)).encode() for _ in range(2)}
    orders = [await an_order(world.log, USERS[0])] if later else []
    committed = [entry for entry in await world.raw.xrange(STREAM) if entry[0] not in strangers]
    epoch, at = world.log.epoch, await world.store.projection().resume(world.log.epoch, PARTITIONS)
    with pytest.raises(LogReplaced):
        await world.repair().glance(at)

    await world.mended()
    assert await world.raw.xrange(STREAM) == committed
    assert world.log.epoch == epoch, "nothing was lost, so nobody need begin anew"
    orders.append(await an_order(world.log, USERS[0]))
    await world.archive()
    for order in orders:
        assert await world.store.get(order.order.id) == order.order


async def test_it_goes_also_where_all_that_was_before_it_was_trimmed(world: World) -> None:
    await every_state(world.log)
    await world.archive()
    stranger = await write_by_hand(world)
    order = await an_order(world.log, USERS[0])
    await world.redis.xtrim(STREAM, minid=stranger, approximate=False)

    await world.mended()
    await world.archive()
    assert await world.store.get(order.order.id) == order.order
