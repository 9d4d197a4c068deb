"""A Redis that was made a replica while we are connected to it: its name leads to another, the connections do not."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest

from deploy.local.ports import Claims
from deploy.local.roster import LOOPBACK
from libs.events.errors import EventLogError, LogUnavailable
from libs.events.ids import START
from libs.events.reactions import ROUTER
from libs.events.redis_log import open_redis_log
from libs.service.shared import SharedUnavailable, open_shared
from libs.service.tokens import Claims as TokenClaims
from tests.fault.own_redis import server
from tests.fault.proxy import proxy
from tests.fault.test_redis_files import ALWAYS, PARTITIONS, address, same_offset, until_open, world_on
from tests.waiting import eventually

CLAIMS = TokenClaims("user-1", datetime.now(UTC) + timedelta(hours=1))


@asynccontextmanager
async def a_name_that_moves(claimed: Claims) -> AsyncIterator[tuple[str, Callable[..., Awaitable[None]]]]:
    """The address of a primary, and what hands it over to its replica. Connections that stand stay where they are."""
    async with server(ALWAYS) as primary, server(ALWAYS) as replica:
        serving = [primary]
        async with proxy(lambda: serving[0].url) as way:
            ports = [claimed.free(LOOPBACK) for _ in range(2)]
            for each, port in zip((primary, replica), ports, strict=True):
                await each.say("CONFIG", "SET", "port", port)
            await replica.say("REPLICAOF", LOOPBACK, ports[0])

            async def move(missed: Callable[[], Awaitable[object]] | None = None) -> None:
                await eventually(lambda: same_offset(primary, replica), what="the replica has it")
                await replica.say("REPLICAOF", "NO", "ONE")
                if missed:
                    await missed()
                # What it missed is here until it has copied the other, which may take long: now it is never reached.
                await primary.say("REPLICAOF", LOOPBACK, 1 if missed else ports[1])
                serving[0] = replica

            yield address(way), move


async def test_orders_are_taken_again_by_the_redis_that_took_over(database_url: str, claimed: Claims) -> None:
    async with a_name_that_moves(claimed) as (url, move), world_on(url, database_url) as world:
        await world.order()
        await world.log.take(ROUTER, "somebody", 10, 0)
        await world.archive()
        await move()
        with pytest.raises(EventLogError):
            await world.order()
        with suppress(EventLogError):
            await world.log.take(ROUTER, "somebody", 10, 0)
        await until_open(world)
        await world.order()
        assert await world.log.take(ROUTER, "somebody", 10, 0)


async def test_tickets_are_given_again_by_the_redis_that_took_over(claimed: Claims) -> None:
    async with a_name_that_moves(claimed) as (url, move), open_shared(url) as shared:
        await shared.make_ticket(CLAIMS)
        await move()
        with pytest.raises(SharedUnavailable, match="replica"):
            await shared.make_ticket(CLAIMS)
        ticket, _ = await shared.make_ticket(CLAIMS)
        assert await shared.take_ticket(ticket) == CLAIMS


async def test_what_only_the_one_that_was_left_has_is_not_read_any_more(database_url: str, claimed: Claims) -> None:
    async with a_name_that_moves(claimed) as (url, move), world_on(url, database_url) as world:
        await world.order()
        await world.archive()
        before = await world.entries()
        await move(missed=world.order)
        with pytest.raises(EventLogError):
            await world.order()
        await until_open(world)
        assert await world.entries() == before


async def test_who_only_reads_finds_the_one_that_took_over_too(database_url: str, claimed: Claims) -> None:
    async with a_name_that_moves(claimed) as (url, move), world_on(url, database_url) as world:
        await world.order()
        await world.archive()
        before = await world.entries()
        async with open_redis_log(url, PARTITIONS) as log:
            await log.start()
            await move()
            with pytest.raises(EventLogError):
                await world.order()
            await until_open(world)

            async def found() -> bool:
                with suppress(LogUnavailable):
                    await log.start()
                    return True
                return False

            await eventually(found, within_s=20, what="it is found")
            assert await log.read(dict.fromkeys(range(PARTITIONS), START), 100, 0) == before


async def test_a_replica_given_by_mistake_is_called_one(database_url: str, claimed: Claims) -> None:
    async with server(ALWAYS) as primary, server(ALWAYS) as replica, world_on(primary.url, database_url) as world:
        await world.order()
        await primary.say("CONFIG", "SET", "port", port := claimed.free(LOOPBACK))
        await replica.say("REPLICAOF", LOOPBACK, port)
        await eventually(lambda: same_offset(primary, replica), what="the replica has it")
        async with open_redis_log(replica.url, PARTITIONS) as log:
            with pytest.raises(LogUnavailable, match="this Redis is a replica"):
                await log.start()
