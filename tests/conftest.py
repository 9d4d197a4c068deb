"""Fixtures every test may ask for. One server of each kind per session, started when the first test needs it."""

from collections.abc import Iterator

import pytest

from deploy.local.ports import Claims
from deploy.local.stores import Store
from tests.servers import (
    flush_redis,
    fresh_database,
    migrated_template,
    postgres_server,
    redis_server,
    throw_away_folders,
)


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


@pytest.fixture(scope="module")
def database_url(postgres_store: Store, database_template: str) -> Iterator[str]:
    """A real Postgres database of the module's own, migrated and empty."""
    with fresh_database(postgres_store.url, database_template) as url:
        yield url
