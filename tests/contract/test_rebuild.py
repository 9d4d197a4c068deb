"""Blue and green on a real Postgres: rebuilt beside the live tables, compared, switched, and rolled back."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from libs.events.ids import START, Position
from libs.events.log import Entry
from libs.events.memory_log import MemoryLog
from libs.orders import folding, rebuild as module, sql
from libs.orders.batch import Batch
from libs.orders.rebuild import NEXT, PREVIOUS, RebuildRefused, drop, open_rebuild, rebuild, roll_back
from libs.orders.rebuild_report import Report
from libs.orders.store import OrderStore, Projection, StoreUnavailable, open_store
from services.ops.__main__ import main
from tests.builders import route_selected, then
from tests.contract.test_order_store import JOURNEY, PARTITIONS, journey
from tests.folded import folded

EPOCH = "e1"


class Projected:
    """A log and its projection, which the tests let go on."""

    def __init__(self, store: OrderStore, dsn: str) -> None:
        self.log, self.store, self.dsn = MemoryLog(PARTITIONS), store, dsn
        self.projection: Projection = store.projection()
        self.at = dict.fromkeys(range(PARTITIONS), START)

    async def begin(self) -> None:
        self.at = await self.projection.resume(EPOCH, PARTITIONS)

    async def more(self, users: Sequence[str], steps: int = len(JOURNEY)) -> None:
        """Orders as far as so many steps, projected."""
        await asyncio.gather(*(journey(self.log, user, JOURNEY[:steps]) for user in users))
        await self.project()

    async def project(self) -> None:
        entries = await self.log.read(self.at, 10_000, 0)
        self.at = await self.projection.apply(EPOCH, Batch(self.at, entries))

    async def entries(self) -> list[Entry]:
        return await self.log.read(dict.fromkeys(range(PARTITIONS), START), 10_000, 0)

    async def is_the_fold(self) -> None:
        orders = folded(await self.entries())
        assert await self.store.get_many(list(orders)) == orders


@pytest.fixture
async def system(database_url: str, direct: asyncpg.Connection) -> AsyncIterator[Projected]:
    async with open_store(database_url) as store:
        projected = Projected(store, database_url)
        await projected.begin()
        yield projected
    for side in (NEXT, PREVIOUS):
        await drop(database_url, side)


async def spoil(direct: asyncpg.Connection) -> str:
    """One row that is not what the log says."""
    order_id = await direct.fetchval("SELECT id FROM orders ORDER BY id LIMIT 1")
    await direct.execute("UPDATE orders SET status = 'FAILED' WHERE id = $1", order_id)
    return str(order_id)


USERS = [f"user-{number}" for number in range(12)]


async def test_what_is_the_fold_is_rebuilt_the_same_and_nothing_changes(system: Projected) -> None:
    await system.more(USERS)
    report = await rebuild(system.dsn)
    assert (report.events, report.orders, report.differing) == (7 * len(USERS), len(USERS), 0)
    assert not report.switched
    await system.is_the_fold()


async def test_a_row_that_differs_is_found_and_a_switch_is_refused(
    system: Projected, direct: asyncpg.Connection
) -> None:
    await system.more(USERS)
    spoiled = await spoil(direct)
    report = await rebuild(system.dsn)
    assert [difference.order_id for difference in report.differences] == [spoiled]
    assert report.differences[0].fields == {"status": ("FAILED", "CONFIRMED")}
    with pytest.raises(RebuildRefused, match="1 orders differ"):
        await rebuild(system.dsn, switch=True)


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


async def go_on(log: MemoryLog, order_id: str) -> None:
    held = await log.find(order_id)
    assert held
    step, _ = then(held, route_selected(2))
    await log.commit(step)


async def test_what_other_code_has_folded_is_folded_again(system: Projected, monkeypatch: pytest.MonkeyPatch) -> None:
    await system.more(USERS)
    with monkeypatch.context() as before:
        before.setitem(folding._STATUS_AFTER, "TxConfirmed", "FAILED")
        before.setattr(module, "folded_by", lambda: "the code of before")
        assert (await rebuild(system.dsn)).differing == len(USERS)
    report = await rebuild(system.dsn)
    assert (report.events, report.differing) == (7 * len(USERS), 0)
    assert (await rebuild(system.dsn)).events == 0


async def test_it_goes_on_where_it_was_interrupted(system: Projected, monkeypatch: pytest.MonkeyPatch) -> None:
    await system.more(USERS)
    monkeypatch.setattr(module, "ENTRIES_PER_PARTITION", 3)

    class Killed(Exception):
        pass

    def after_some(count: int) -> None:
        if count > 20:
            raise Killed

    with pytest.raises(Killed):
        await rebuild(system.dsn, progress=after_some)
    report = await rebuild(system.dsn)
    assert 0 < report.events < 7 * len(USERS) - 20
    assert (report.orders, report.differing) == (len(USERS), 0)


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
    true_step = getattr(module.Rebuild, step)

    class Killed(Exception):
        pass

    async def last_step(*given: Any) -> None:
        await true_step(*given)
        raise Killed

    comes_to_it = not (what == "roll back" and step in {"begin", "compare"})
    with monkeypatch.context() as patch:
        patch.setattr(module.Rebuild, step, last_step)
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


async def test_before_the_first_start_there_is_nothing_to_rebuild(
    system: Projected, direct: asyncpg.Connection
) -> None:
    await direct.execute("TRUNCATE checkpoints")
    with pytest.raises(RebuildRefused, match="nothing was ever projected"):
        await rebuild(system.dsn)


async def test_only_one_at_a_time(system: Projected) -> None:
    await system.more(USERS)
    async with open_rebuild(system.dsn):
        with pytest.raises(StoreUnavailable, match="another rebuild"):
            await rebuild(system.dsn)


async def test_tables_from_before_a_migration_are_made_anew(system: Projected, direct: asyncpg.Connection) -> None:
    await system.more(USERS)
    await rebuild(system.dsn)
    await direct.execute("ALTER TABLE rebuild.orders DROP COLUMN token_in")
    report = await rebuild(system.dsn)
    assert (report.events, report.differing) == (7 * len(USERS), 0)


async def test_a_reader_that_holds_the_table_stops_only_the_switch(
    system: Projected, direct: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await system.more(USERS)
    monkeypatch.setattr(module, "LOCK_TIMEOUT", "100ms")
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
    monkeypatch.setattr(module, "ENTRIES_PER_PARTITION", 2)
    compare, index = module.Rebuild.compare, module.Rebuild._index

    async def all_go_on(steps: int) -> None:
        for _ in range(steps):
            await asyncio.gather(*(go_on(system.log, order_id) for order_id in before))
        await system.project()

    async def compare_slowly(self: module.Rebuild, report: Report) -> dict[int, Position]:
        at = await compare(self, report)
        await all_go_on(1)
        return at

    async def index_slowly(self: module.Rebuild) -> None:
        await index(self)
        await all_go_on(4)

    monkeypatch.setattr(module.Rebuild, "compare", compare_slowly)
    monkeypatch.setattr(module.Rebuild, "_index", index_slowly)
    report = await rebuild(system.dsn, switch=True)
    assert (report.switched, report.differing) == (True, 0)
    await system.is_the_fold()


def test_the_command(database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("DATABASE_URL", database_url)

    async def prepare() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute("TRUNCATE events, orders, checkpoints")
        async with open_store(database_url) as store:
            system = Projected(store, database_url)
            await system.begin()
            await system.more(USERS)
        await spoil(connection)
        await connection.close()

    asyncio.run(prepare())
    assert main(["rebuild", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["orders"], told["differing"], told["switched"]) == (len(USERS), 1, False)
    assert told["differences"][0]["fields"] == {"status": ["FAILED", "CONFIRMED"]}
    assert main(["rebuild", "--switch"]) == 1
    assert "1 orders differ" in capsys.readouterr().err
    assert main(["rebuild", "--switch", "--accept-differences"]) == 0
    assert "switched" in capsys.readouterr().out
    assert main(["rebuild"]) == 0
    assert "12 orders compared, 0 differ" in capsys.readouterr().out
    assert main(["rebuild", "--rollback"]) == 0
    assert main(["rebuild", "--drop"]) == 0
    assert main(["rebuild", "--rollback"]) == 1
    assert main(["rebuild", "--rollback", "--switch"]) == 2
