"""`swaplog stuck`, and users named by their email: what an operator asks first when somebody complains."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from deploy.local.stores import Store
from libs.events.log import Committed, Snapshot
from libs.events.model import Event
from libs.events.redis_log import RedisLog
from libs.orders.batch import Batch
from libs.orders.store import open_store
from services.ops.__main__ import main
from services.ops.show_parked import name_of
from services.ops.stack import EXIT_DIFFERS, EXIT_UNREACHABLE, EXIT_USAGE
from tests.builders import a_request, order_opened, route_selected, routing_started, then, tx_confirmed
from tests.contract.ops_rig import PARTITIONS, T, with_log
from tests.servers import flush_redis, fresh_database


class Swaplog:
    """The command, and the stores it is about."""

    def __init__(self, redis_url: str, database_url: str, output: pytest.CaptureFixture[bytes]) -> None:
        self._redis_url, self.database_url, self._output = redis_url, database_url, output

    def told(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        self._output.readouterr()
        code = main([*arguments, "--json"])
        return code, [json.loads(line) for line in self._output.readouterr().out.splitlines()]

    def said(self, *arguments: str) -> str:
        self._output.readouterr()
        main([*arguments])
        return self._output.readouterr().out.decode()

    def stuck(self, *arguments: str) -> list[str]:
        return [event["subject"] for event in self.told("stuck", *arguments)[1]]

    def log(self, work: Callable[[RedisLog], Awaitable[T]]) -> T:
        return with_log(self._redis_url, work)

    def order(self, *bodies: Event, user: str = "user-1") -> Snapshot:
        """An order these happened to, archived."""

        async def happen(log: RedisLog) -> Snapshot:
            step, now = a_request(PARTITIONS, user)
            assert isinstance(await log.commit(step), Committed)
            for body in bodies:
                step, now = then(now, body)
                assert isinstance(await log.commit(step), Committed)
            async with open_store(self.database_url) as store:
                projection = store.projection()
                after = await projection.resume(log.epoch, PARTITIONS)
                await projection.apply(log.epoch, Batch(after, await log.read(after, 100, 0)))
            return now

        return self.log(happen)

    def happens(self, before: Snapshot, body: Event) -> None:
        """Not archived yet."""
        self.log(lambda log: log.commit(then(before, body)[0]))


@pytest.fixture
def swaplog(
    redis_url: str,
    postgres_store: Store,
    database_template: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> Any:
    flush_redis(redis_url)
    with fresh_database(postgres_store.url, database_template) as database_url:
        monkeypatch.setenv("REDIS_URL", redis_url)
        monkeypatch.setenv("DATABASE_URL", database_url)
        monkeypatch.setenv("DATA_DIR", str(tmp_path))
        yield Swaplog(redis_url, database_url, capsysbinary)


def test_what_stands_still_is_told_with_its_last_event_and_what_ended_or_waits_for_its_price_is_not(
    swaplog: Swaplog,
) -> None:
    routing, building = swaplog.order(routing_started()), swaplog.order(route_selected())
    swaplog.order(order_opened())
    swaplog.order(tx_confirmed())

    code, told = swaplog.told("stuck")
    assert code == EXIT_DIFFERS
    assert [(event["subject"], event["type"]) for event in told] == [
        (routing.order.id, "RoutingStarted"),
        (building.order.id, "RouteSelected"),
    ]
    assert "RoutingStarted" in swaplog.said("stuck")


def test_nothing_that_stands_still_is_exit_0(swaplog: Swaplog) -> None:
    swaplog.order(routing_started())
    assert swaplog.told("stuck", "--for", "9000d") == (0, [])
    assert swaplog.told("stuck", "--for", "a while")[0] == EXIT_USAGE


def test_an_order_that_went_on_since_it_was_archived_does_not_stand_still(swaplog: Swaplog) -> None:
    order = swaplog.order(routing_started())
    assert swaplog.stuck() == [order.order.id]
    swaplog.happens(order, tx_confirmed())
    assert swaplog.stuck() == []


def test_of_an_order_that_is_parked_it_is_said_as_what(swaplog: Swaplog) -> None:
    order = swaplog.order(user="user-2")

    async def park(log: RedisLog) -> str:
        (item,) = await log.take("router", "operator", 16, 100)
        assert await log.park(item, "no such pool", "print")
        return name_of((await log.parked())[0])

    parked = swaplog.log(park)
    (told,) = swaplog.told("stuck")[1]
    assert (told["subject"], told["parked"]) == (order.order.id, parked)
    assert parked in swaplog.said("stuck")


def test_without_postgres_nobody_knows_what_stands_still(swaplog: Swaplog, monkeypatch: pytest.MonkeyPatch) -> None:
    swaplog.order(routing_started())
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    assert swaplog.told("stuck") == (EXIT_UNREACHABLE, [])


def test_a_user_may_be_named_by_email(swaplog: Swaplog, monkeypatch: pytest.MonkeyPatch) -> None:
    async def sign_up() -> None:
        connection = await asyncpg.connect(swaplog.database_url)
        make = "INSERT INTO users (id, email, password_hash) VALUES ($1, 'ada@example.org', '')"
        await connection.execute(make, UUID(int=7))
        await connection.close()

    asyncio.run(sign_up())
    swaplog.order()
    order = swaplog.order(user=str(UUID(int=7)))
    code, told = swaplog.told("events", "--user", "Ada@example.org")
    assert (code, [event["subject"] for event in told]) == (0, [order.order.id])
    assert swaplog.told("events", "--user", "nobody@example.org") == (EXIT_DIFFERS, [])
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    assert swaplog.told("events", "--user", "ada@example.org") == (EXIT_UNREACHABLE, [])


def test_on_a_terminal_nothing_found_is_said(swaplog: Swaplog) -> None:
    swaplog.order()
    ours, terminal = os.openpty()
    command = [sys.executable, "-m", "services.ops", "events", "--user", "user-l"]
    done = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, check=False)
    os.close(terminal)
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, b"no such event\n")
