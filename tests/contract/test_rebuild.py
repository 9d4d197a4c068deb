"""Blue and green on a real Postgres: rebuilt beside the live tables, and compared with them."""

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from libs.events.ids import Position
from libs.orders import folding, shadow
from libs.orders.rebuild import open_rebuild, rebuild
from libs.orders.recovery import Recovery
from libs.orders.refolding import Heads, Refolding
from libs.orders.shadow import RebuildRefused
from libs.orders.store import StoreUnavailable, open_store
from services.ops.__main__ import main
from tests.contract.order_store_rig import PARTITIONS
from tests.contract.rebuild_rig import USERS, Projected, open_projected, spoil


@pytest.fixture
async def system(database_url: str, direct: asyncpg.Connection) -> AsyncIterator[Projected]:
    async with open_projected(database_url) as made:
        yield made


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


async def test_what_other_code_has_folded_is_folded_again(system: Projected, monkeypatch: pytest.MonkeyPatch) -> None:
    await system.more(USERS)
    with monkeypatch.context() as before:
        before.setitem(folding._STATUS_AFTER, "TxConfirmed", "FAILED")
        before.setattr(shadow, "folded_by", lambda: "the code of before")
        assert (await rebuild(system.dsn)).differing == len(USERS)
    report = await rebuild(system.dsn)
    assert (report.events, report.differing) == (7 * len(USERS), 0)
    assert (await rebuild(system.dsn)).events == 0


async def test_it_goes_on_where_it_was_interrupted(system: Projected, monkeypatch: pytest.MonkeyPatch) -> None:
    await system.more(USERS)
    monkeypatch.setattr(shadow, "ENTRIES_PER_PARTITION", 3)

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


async def _prepare(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("TRUNCATE events, orders, checkpoints")
    async with open_store(database_url) as store:
        system = Projected(store, database_url)
        await system.begin()
        await system.more(USERS)
    await spoil(connection)
    await connection.close()


def test_a_log_made_again_meanwhile_is_one_line(
    database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("DATABASE_URL", database_url)
    asyncio.run(_prepare(database_url))
    first = Refolding.apply

    async def repaired_meanwhile(folding: Refolding, epoch: str, batch: Heads) -> dict[int, Position]:
        at = await first(folding, epoch, batch)
        async with open_store(database_url) as store:
            await Recovery(store).adopt("another", PARTITIONS)
        return at

    with monkeypatch.context() as patch:
        patch.setattr(shadow, "ENTRIES_PER_PARTITION", 2)
        patch.setattr(Refolding, "apply", repaired_meanwhile)
        assert main(["rebuild"]) == 3
    told = capsys.readouterr().err
    assert "call it again" in told
    assert "another process" not in told
    assert main(["rebuild", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["differing"] == 1
    assert main(["rebuild", "--drop"]) == 0


def test_the_command(database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("DATABASE_URL", database_url)
    asyncio.run(_prepare(database_url))
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
