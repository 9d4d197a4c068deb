"""Blue and green on a real Postgres: switched and rolled back, while orders flow and whatever ends in the middle."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest

from libs.events.ids import Position
from libs.orders import shadow, sql
from libs.orders.rebuild import rebuild, roll_back
from libs.orders.rebuild_report import Report
from libs.orders.shadow import RebuildRefused, Shadow
from tests.contract.rebuild_rig import USERS, Projected, go_on, open_projected, spoil
from tests.folded import folded


@pytest.fixture
async def system(database_url: str, direct: asyncpg.Connection) -> AsyncIterator[Projected]:
    async with open_projected(database_url) as made:
        yield made


async def test_a_switch_mends_it_while_the_projector_goes_on(system: Projected, direct: asyncpg.Connection) -> None:
    await system.more(USERS, steps=3)
    await spoil(direct)
    report = await rebuild(system.dsn, switch=True, accept=True)
    assert report.switched
    await system.is_the_fold()
    await system.more(["late"])
    await system.is_the_fold()
    indexes = await direct.fetch(sql.INDEXES, "public")
    assert {row["indexname"] for row in indexes} == {"orders_of_user", "orders_client_id"}


async def test_the_projector_forgets_what_it_folded_from_the_tables_of_before(
    system: Projected, direct: asyncpg.Connection
) -> None:
    """It keeps orders in memory; after a switch they are not what the tables say."""
    await system.more(USERS, steps=3)
    before = folded(await system.entries())
    await rebuild(system.dsn, switch=True)
    await direct.execute("UPDATE orders SET amount_out = 7")
    await asyncio.gather(*(go_on(system.log, order_id) for order_id in before))
    await system.project()
    rows = await system.store.get_many(list(before))
    assert {order.amount_out for order in rows.values()} == {7}


@pytest.mark.parametrize("step", ["begin", "catch_up", "compare", "_index", "_fall_in_step", "_swap"])
@pytest.mark.parametrize("what", ["rebuild", "roll back"])
async def test_it_may_end_after_any_step(
    system: Projected, what: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live tables stay what they are until all of them are exchanged, and the next try goes on."""
    await system.more(USERS, steps=3)
    if what == "roll back":
        await rebuild(system.dsn, switch=True)
    acts: dict[str, Callable[[], Awaitable[Report]]] = {
        "rebuild": lambda: rebuild(system.dsn, switch=True),
        "roll back": lambda: roll_back(system.dsn),
    }
    act = acts[what]
    true_step = getattr(Shadow, step)

    class Killed(Exception):
        pass

    async def last_step(*given: Any) -> None:
        await true_step(*given)
        raise Killed

    comes_to_it = not (what == "roll back" and step in {"begin", "compare"})
    with monkeypatch.context() as patch:
        patch.setattr(Shadow, step, last_step)
        if comes_to_it:
            with pytest.raises(Killed):
                await act()
    await system.is_the_fold()
    await system.more(["late"])
    await system.is_the_fold()
    report = await act()
    assert (report.switched, report.differing) == (True, 0)
    await system.is_the_fold()
    await system.more(["later"])
    await system.is_the_fold()


async def test_a_rollback_brings_back_what_was_live_and_up_to_date(
    system: Projected, direct: asyncpg.Connection
) -> None:
    await system.more(USERS)
    spoiled = await spoil(direct)
    await rebuild(system.dsn, switch=True, accept=True)
    await system.more(["late"])
    report = await roll_back(system.dsn)
    assert report.switched
    assert report.events == 7
    assert (await system.store.get_many([spoiled]))[spoiled].status == "FAILED", "it is the table of before"
    orders = folded(await system.entries())
    assert await direct.fetchval("SELECT count(*) FROM orders") == len(orders)
    await system.more(["later"])
    await roll_back(system.dsn)
    await system.is_the_fold()


async def test_without_a_switch_there_is_nothing_to_go_back_to(system: Projected) -> None:
    await system.more(USERS)
    with pytest.raises(RebuildRefused, match="nothing to go back to"):
        await roll_back(system.dsn)


async def test_a_reader_that_holds_the_table_stops_only_the_switch(
    system: Projected, direct: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await system.more(USERS)
    monkeypatch.setattr(shadow, "LOCK_TIMEOUT", "100ms")
    async with direct.transaction():
        await direct.fetch("SELECT count(*) FROM orders")
        with pytest.raises(RebuildRefused, match="try again"):
            await rebuild(system.dsn, switch=True)
    assert (await rebuild(system.dsn, switch=True)).switched


async def test_it_is_switched_while_orders_flow(system: Projected, direct: asyncpg.Connection) -> None:
    """Nobody who reads or writes meets a moment without tables, and nothing is missing afterwards."""
    await system.more(USERS)
    stop = asyncio.Event()

    async def flow() -> int:
        number = 0
        while not stop.is_set():
            await system.more([f"flow-{number}"])
            number += 1
        return number

    async def read() -> int:
        seen = 0
        while not stop.is_set():
            found = await system.store.get(str(some))
            assert found
            seen += 1
        return seen

    some: UUID = await direct.fetchval("SELECT id FROM orders LIMIT 1")
    flowing, reading = asyncio.create_task(flow()), asyncio.create_task(read())
    for _ in range(4):
        assert (await rebuild(system.dsn, switch=True)).switched
    await roll_back(system.dsn)
    stop.set()
    assert await flowing > 0
    assert await reading > 0
    await system.is_the_fold()


async def test_orders_that_go_on_a_long_way_while_it_is_switched(
    system: Projected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making indexes takes minutes, and what comes meanwhile is more than one page."""
    await system.more(USERS, steps=1)
    before = folded(await system.entries())
    monkeypatch.setattr(shadow, "ENTRIES_PER_PARTITION", 2)
    compare, index = Shadow.compare, Shadow._index

    async def all_go_on(steps: int) -> None:
        for _ in range(steps):
            await asyncio.gather(*(go_on(system.log, order_id) for order_id in before))
        await system.project()

    async def compare_slowly(self: Shadow, report: Report) -> dict[int, Position]:
        at = await compare(self, report)
        await all_go_on(1)
        return at

    async def index_slowly(self: Shadow) -> None:
        await index(self)
        await all_go_on(4)

    monkeypatch.setattr(Shadow, "compare", compare_slowly)
    monkeypatch.setattr(Shadow, "_index", index_slowly)
    report = await rebuild(system.dsn, switch=True)
    assert (report.switched, report.differing) == (True, 0)
    await system.is_the_fold()


async def test_who_might_read_and_write_orders_may_after_a_switch(
    system: Projected, direct: asyncpg.Connection
) -> None:
    """An operator comes as another user than the services: theirs would not be told an order any more."""
    await system.more(USERS)
    owner, reader = (f"swaplog_{who}_{token_hex(4)}" for who in ("owner", "reader"))
    await direct.execute(f"CREATE ROLE {owner}; CREATE ROLE {reader}")
    try:
        await direct.execute(f"ALTER TABLE orders OWNER TO {owner}; GRANT SELECT ON orders TO {reader}, PUBLIC")
        asked = "SELECT relowner::regrole::text, relacl::text FROM pg_class WHERE oid = 'orders'::regclass"
        before = await direct.fetchrow(asked)
        for change in (rebuild(system.dsn, switch=True), roll_back(system.dsn)):
            await change
            assert await direct.fetchrow(asked) == before
    finally:
        await direct.execute(f"REASSIGN OWNED BY {owner} TO CURRENT_USER; DROP OWNED BY {owner}, {reader}")
        await direct.execute(f"DROP ROLE {owner}, {reader}")


TOLD = "TRIGGER seen BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"


@pytest.mark.parametrize(
    ("made", "named", "gone"),
    [
        ("VIEW seen AS SELECT * FROM orders", "view seen", "VIEW seen"),
        (TOLD, "trigger seen", "TRIGGER seen ON orders"),
        ("PUBLICATION seen FOR TABLE orders", "publication seen", "PUBLICATION seen"),
    ],
    ids=["view", "trigger", "publication"],
)
async def test_who_follows_the_orders_is_not_left_with_those_of_before(
    system: Projected, direct: asyncpg.Connection, made: str, named: str, gone: str
) -> None:
    await system.more(USERS, steps=3)
    await rebuild(system.dsn, switch=True)
    await direct.execute(f"CREATE {made}")
    try:
        for put_in_place in (rebuild(system.dsn, switch=True), roll_back(system.dsn)):
            with pytest.raises(RebuildRefused, match=f"{named} would stay"):
                await put_in_place
        await system.more(["late"])
        await system.is_the_fold()
    finally:
        await direct.execute(f"DROP {gone}")
    assert (await rebuild(system.dsn, switch=True)).switched


async def test_who_may_not_make_tables_is_told_so(system: Projected, direct: asyncpg.Connection) -> None:
    await system.more(USERS)
    user, at = f"swaplog_user_{token_hex(4)}", urlsplit(system.dsn)
    await direct.execute(
        f"CREATE ROLE {user} LOGIN PASSWORD 'secret'; GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}"
    )
    try:
        dsn = at._replace(netloc=f"{user}:secret@{at.netloc.rpartition('@')[2]}").geturl()
        with pytest.raises(RebuildRefused, match="permission denied for database"):
            await rebuild(dsn)
    finally:
        await direct.execute(f"DROP OWNED BY {user}; DROP ROLE {user}")
