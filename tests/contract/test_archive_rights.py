"""A user of the database who may write rows and make nothing: told so long before it matters, and waited for then."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from urllib.parse import urlsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

from libs.orders.store import OrderStore, StoreUnavailable, open_store
from libs.service.health import Health
from tests.contract.projector_rig import StartedMemoryLog, assert_postgres_is_the_fold_of, caught_up, projecting
from tests.journeys import journey
from tests.waiting import eventually


@pytest.fixture
async def owner(own_database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(own_database)
    yield connection
    await connection.close()


@asynccontextmanager
async def as_nobody(url: str, owner: asyncpg.Connection) -> AsyncIterator[tuple[OrderStore, str]]:
    user, at = f"swaplog_user_{token_hex(4)}", urlsplit(url)
    await owner.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'secret'")
    await owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}")
    try:
        async with open_store(at._replace(netloc=f"{user}:secret@{at.netloc.rpartition('@')[2]}").geturl()) as store:
            yield store, user
    finally:
        await owner.execute(f"REASSIGN OWNED BY {user} TO CURRENT_USER; DROP OWNED BY {user}; DROP ROLE {user}")


async def test_who_may_not_make_leaves_is_told_at_the_start_and_projects_until_one_is_due(
    own_database: str, owner: asyncpg.Connection
) -> None:
    health, log = Health("redis", "postgres"), StartedMemoryLog()
    await journey(log, "user-1")
    async with as_nobody(own_database, owner) as (store, user), projecting(log, store, health):
        with capture_logs() as said:
            await eventually(lambda: caught_up(log, store))
        assert health.ready
        (warned,) = [one["reason"] for one in said if "will have to wait" in one["event"]]
        assert f"{user} may not make the next leaf of the archive: it needs CREATE on the schema public and " in warned


async def test_who_may_not_make_the_leaf_that_is_due_waits_until_he_may(
    own_database: str, owner: asyncpg.Connection
) -> None:
    health, log = Health("redis", "postgres"), StartedMemoryLog()
    await journey(log, "user-1")
    await owner.execute("DROP TABLE events_0")
    async with as_nobody(own_database, owner) as (store, user), projecting(log, store, health) as projector:
        await eventually(lambda: projector.done() or "next leaf" in health.reasons.get("postgres", ""))
        assert not projector.done()
        await owner.execute(f"GRANT CREATE ON SCHEMA public TO {user}; ALTER TABLE events OWNER TO {user}")
        await eventually(lambda: caught_up(log, store))
        await eventually(lambda: health.ready)
        await assert_postgres_is_the_fold_of(log, store)


async def test_who_may_read_nothing_is_told_so_and_projects_when_he_may(
    own_database: str, owner: asyncpg.Connection
) -> None:
    """As after a backup was restored by another user of the database."""
    health, log = Health("redis", "postgres"), StartedMemoryLog()
    await journey(log, "user-1")
    async with as_nobody(own_database, owner) as (store, user):
        await owner.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {user}")
        with pytest.raises(StoreUnavailable, match="permission denied for table"):
            await store.newest("user-1", None, 10)
        async with projecting(log, store, health) as projector:
            await eventually(lambda: projector.done() or "permission denied" in health.reasons.get("postgres", ""))
            assert not projector.done()
            await owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}")
            await eventually(lambda: caught_up(log, store))
