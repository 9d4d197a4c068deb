"""Root starts a stack: Postgres runs as nobody, who can enter neither root's home nor what a strict umask closes."""

import os
import shutil
from collections.abc import Iterator

import asyncpg
import psutil  # type: ignore[import-untyped]  # it brings no types
import pytest

from deploy.local.folders import Folders, make_folders, remove_runtime
from deploy.local.forget import forget
from deploy.local.stores import postgres_store
from deploy.local.unprivileged import staged
from libs.service.settings import ConfigurationError
from tests.contract.test_stores import HERE, POSTGRES
from tests.servers import throw_away_folders

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can change user")


@pytest.fixture
def folders() -> Iterator[Folders]:
    with throw_away_folders() as made:
        yield made


async def test_postgres_has_no_rights_when_we_are_root(folders: Folders) -> None:
    async with postgres_store(HERE, folders, durable=False) as store:
        assert psutil.Process(store.pid).username() == "nobody"
        assert (folders.data / "postgres").owner() == "nobody"


async def test_postgres_runs_although_nobody_can_enter_our_home(folders: Folders) -> None:
    home = folders.data / "home"
    home.mkdir(mode=0o700)
    inside = make_folders(home / "data")
    async with postgres_store(HERE, inside, durable=False) as store:
        connection = await asyncpg.connect(store.url)
        await connection.close()
    moved = (home / "data" / "postgres").resolve()
    assert home not in moved.parents
    async with postgres_store(HERE, inside, durable=False):
        pass
    shutil.rmtree(moved)
    shutil.rmtree(inside.run)


@pytest.fixture
def in_closed_home(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folders]:
    """A data folder nobody but root can enter, so that the files of Postgres are elsewhere."""
    monkeypatch.setattr("deploy.local.postgres_server.DATA_FOR_NOBODY", folders.data / "elsewhere")
    monkeypatch.setattr("deploy.local.postgres_server.FOLDER_FREE_WITHIN_S", 0)
    home = folders.data / "home"
    home.mkdir(mode=0o700)
    inside = make_folders(home / "data")
    inside.keys.touch()
    yield inside
    remove_runtime(inside)


def copied(folders: Folders) -> Folders:
    """As `cp -a` of a data folder."""
    copy = folders.data.with_name("copy")
    shutil.copytree(folders.data, copy, symlinks=True)
    return make_folders(copy)


async def test_a_copy_of_the_data_folder_never_runs_a_second_server_on_the_same_files(in_closed_home: Folders) -> None:
    async with postgres_store(HERE, in_closed_home, durable=True):
        copy = copied(in_closed_home)
        with pytest.raises(ConfigurationError, match="another Postgres still uses"):
            async with postgres_store(HERE, copy, durable=True):
                pass
        with pytest.raises(ConfigurationError, match="a stack runs on"):
            forget(in_closed_home.data)
    remove_runtime(copy)


async def test_who_forgets_a_copy_of_the_data_folder_keeps_the_first_one(in_closed_home: Folders) -> None:
    async with postgres_store(HERE, in_closed_home, durable=True):
        pass
    home = (in_closed_home.data / "postgres").resolve()
    copy = copied(in_closed_home)
    assert str(home) in forget(copy.data), "what is left is told"
    assert (home / "PG_VERSION").exists()
    assert not copy.data.exists()
    forget(in_closed_home.data)
    assert list(home.parent.iterdir()) == []


async def test_files_of_postgres_that_are_gone_are_not_begun_anew_unasked(in_closed_home: Folders) -> None:
    async with postgres_store(HERE, in_closed_home, durable=True):
        pass
    link = in_closed_home.data / "postgres"
    shutil.rmtree(link.resolve())
    with pytest.raises(ConfigurationError, match=f"{link} leads to .*, where nothing is any more"):
        async with postgres_store(HERE, in_closed_home, durable=True):
            pass
    link.unlink()
    async with postgres_store(HERE, in_closed_home, durable=True) as store:
        assert store.pid


@pytest.fixture
def strict_umask() -> Iterator[None]:
    """As servers are hardened: what root makes nobody else may enter."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
async def test_postgres_runs_also_where_what_root_makes_is_closed(folders: Folders) -> None:
    fresh = make_folders(folders.data / "fresh")
    try:
        async with postgres_store(HERE | {"SWAPLOG_STORES": "wheel"}, fresh, durable=False) as store:
            assert store.pid
    finally:
        remove_runtime(fresh)


@pytest.mark.usefixtures("strict_umask")
def test_programs_are_staged_also_where_what_root_makes_is_closed(folders: Folders) -> None:
    home = folders.data / "home"
    for tree in (package := POSTGRES["wheel"].path.parents[1], package.with_name(f"{package.name}.libs")):
        shutil.copytree(tree, home / tree.name, symlinks=True)
    closed = home / package.name / "pginstall" / "bin"
    assert home not in staged(closed, folders.run / "programs", "nobody").parents


def test_programs_in_a_closed_home_are_staged_where_nobody_can_run_them(folders: Folders) -> None:
    home = folders.data / "home"
    site = home / "site-packages"
    programs = POSTGRES["wheel"].path
    package = programs.parents[1]
    for tree in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(tree, site / tree.name, symlinks=True)
    home.chmod(0o700)
    closed = site / package.name / "pginstall" / "bin"
    here = staged(closed, folders.run / "programs", "nobody")
    assert home not in here.parents
    assert (here / "postgres").samefile(closed / "postgres")
    assert staged(programs, folders.run / "other", None) == programs
