"""Fixtures every test may ask for, and how tests run beside each other (pytest-xdist).

One server of each kind per session, started when the first test needs it; a parallel worker is a session of its own.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from deploy.local.ports import Claims
from deploy.local.redis_server import URL_VARIABLES
from deploy.local.stores import Store
from tests.cluster import redis_cluster
from tests.servers import (
    flush_redis,
    fresh_database,
    migrated_template,
    postgres_server,
    redis_server,
    throw_away_folders,
)

# A machine may be busy: how long an example takes says nothing.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

TESTS = Path(__file__).parent
STORES_GIVEN_BY = (*URL_VARIABLES, "DATABASE_URL")
MORE_THAN_CORES, WORKERS_MAX = 1, 8  # tests of whole systems wait half of their time
LONG_ONES_FIRST = ("e2e", "fault", "simulation", "contract", "property", "unit")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means. Each worker has stores of its own, so given ones, which tests empty, have one user: 0."""
    if any(os.environ.get(variable) for variable in STORES_GIVEN_BY):
        return 0
    return min((os.cpu_count() or 1) + MORE_THAN_CORES, WORKERS_MAX)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A long module that began last would keep one worker busy while the others have nothing left."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=_how_late)


def _how_late(item: pytest.Item) -> int:
    kind = item.path.relative_to(TESTS).parts[0]
    return LONG_ONES_FIRST.index(kind) if kind in LONG_ONES_FIRST else len(LONG_ONES_FIRST)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_on_this_machine() -> Iterator[None]:
    """As root, Postgres keeps data for folders it may not enter (pytest's own) elsewhere; tests must not."""
    with throw_away_folders() as folders, pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploy.local.postgres_server.DATA_FOR_NOBODY", folders.data / "for-nobody")
        yield


@pytest.fixture
def claimed() -> Iterator[Claims]:
    """Ports for servers of the test's own."""
    with Claims() as ports:
        yield ports


@pytest.fixture(scope="session")
def redis_store() -> Iterator[Store]:
    with redis_server() as store:
        yield store


@pytest.fixture(scope="session")
def postgres_store() -> Iterator[Store]:
    with postgres_server() as store:
        yield store


@pytest.fixture(scope="session")
def database_template(postgres_store: Store) -> Iterator[str]:
    with migrated_template(postgres_store.url) as name:
        yield name


@pytest.fixture(scope="module")
def redis_url(redis_store: Store) -> str:
    """A real Redis, empty when the module's first test starts."""
    flush_redis(redis_store.url)
    return redis_store.url


@pytest.fixture(scope="session")
def cluster_url() -> Iterator[str]:
    """Any node of a Redis Cluster of three; whoever opens a log there empties it first."""
    with redis_cluster() as cluster:
        yield cluster.url


@pytest.fixture(scope="module")
def database_url(postgres_store: Store, database_template: str) -> Iterator[str]:
    """A real Postgres database of the module's own, migrated and empty."""
    with fresh_database(postgres_store.url, database_template) as url:
        yield url
