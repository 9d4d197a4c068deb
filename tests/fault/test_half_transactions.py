"""A Redis that died while it wrote a commit to its file: it drops that commit when it starts, and brings it back later.

What is left of a transaction whose end is missing stays in the file (valkey-io/valkey#4342), and is closed by the end
of the next one: at the second start both are there, and two events have one position.
"""

import pytest

from libs.events.log import Committed
from tests.builders import a_request
from tests.fault.own_redis import server
from tests.fault.test_redis_files import ALWAYS, World, until_open, world_on

END = len(b"*1\r\n$4\r\nEXEC\r\n")


@pytest.mark.parametrize("archived", [True, False], ids=["archived", "not archived"])
@pytest.mark.parametrize("short", [1, END + 1, 400], ids=["its end", "its last write", "half of it"])
async def test_what_was_never_committed_does_not_come_back(database_url: str, short: int, archived: bool) -> None:
    async with server(ALWAYS) as redis, world_on(redis.url, database_url) as world:
        first = await world.order()
        await world.archive()
        await one_more(world, "user-1")
        whole = redis.file.read_bytes()
        await redis.kill()
        redis.file.write_bytes(whole[:-short])
        await redis.start()
        await until_open(world)
        assert len(await world.entries()) == 3, "it had not been written whole"
        second = await world.order()
        await one_more(world, "user-1")
        if archived:
            await world.archive()
        before = await world.entries()
        await redis.kill()
        await redis.start()
        await until_open(world)
        assert await world.entries() == before
        for order in (first, second):
            assert await world.log.find(order.order.id) == order
        third = await world.order()
        await world.archive()
        assert await world.log.find(third.order.id) == third


async def one_more(world: World, user: str) -> None:
    step, _ = a_request(2, user)
    assert isinstance(await world.log.commit(step), Committed)
