"""`swaplog` against real stores: the log trimmed, the archive behind, items parked, both away."""

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis, RedisCluster

from deploy.local.stores import Store
from libs.events.ids import START, Position
from libs.events.log import Committed, Entry
from libs.events.redis_keys import Keys
from libs.events.redis_log import RedisLog
from libs.orders.batch import Batch
from libs.orders.store import open_store
from services.ops.__main__ import main
from services.ops.stack import EXIT_DIFFERS, EXIT_UNREACHABLE, EXIT_USAGE
from tests.builders import a_request, route_selected, routing_started, then, tx_confirmed, tx_submitted
from tests.contract.ops_rig import PARTITIONS, T, with_log
from tests.servers import fresh_database

STORY = (routing_started(), route_selected(), tx_submitted(), tx_confirmed())
NOWHERE = "redis://127.0.0.1:1/0"

Told = tuple[int, list[dict[str, Any]]]


class Stack:
    """Stores with whole orders in the log, all of them archived but the last user's."""

    def __init__(self, redis_url: str, database_url: str, *, in_cluster: bool) -> None:
        self.redis_url, self.database_url, self.in_cluster = redis_url, database_url, in_cluster
        self.orders: dict[str, str] = {}
        self.archived: dict[int, Position] = {}

    def with_log(self, work: Callable[[RedisLog], Awaitable[T]]) -> T:
        return with_log(self.redis_url, work)

    def order(self, user: str) -> None:
        async def happen(log: RedisLog) -> None:
            step, before = a_request(PARTITIONS, user)
            following, _ = then(before, *STORY)
            for one in (step, following):
                assert isinstance(await log.commit(one), Committed)
            self.orders[user] = before.order.id

        self.with_log(happen)

    def archive(self) -> None:
        async def project(log: RedisLog) -> None:
            async with open_store(self.database_url) as store:
                projection = store.projection()
                after = await projection.resume(log.epoch, PARTITIONS)
                entries = await log.read(after, 1_000, 0)
                self.archived = await projection.apply(log.epoch, Batch(after, entries))

        self.with_log(project)

    def everything(self) -> list[Entry]:
        return self.with_log(lambda log: log.read(dict.fromkeys(range(PARTITIONS), START), 1_000, 0))

    def trim(self) -> None:
        """Leave what is not archived, and the last entry that is."""
        with self.client() as client:
            for partition, at in self.archived.items():
                client.xtrim(Keys(partition).log, minid=str(at), approximate=False)

    def client(self) -> Any:
        kind: Any = RedisCluster if self.in_cluster else Redis
        return kind.from_url(self.redis_url, decode_responses=True)


@pytest.fixture(scope="module", params=["redis", "cluster"])
def stack(request: pytest.FixtureRequest, postgres_store: Store, database_template: str) -> Iterator[Stack]:
    url = str(request.getfixturevalue(f"{request.param}_url"))
    with fresh_database(postgres_store.url, database_template) as database_url:
        yield a_stack(url, database_url, in_cluster=request.param == "cluster")


def a_stack(redis_url: str, database_url: str, *, in_cluster: bool) -> Stack:
    made = Stack(redis_url, database_url, in_cluster=in_cluster)
    with made.client() as client:
        client.flushall()
    for number in range(6):
        made.order(f"user-{number}")
    made.archive()
    made.order("late")
    return made


@pytest.fixture
def swaplog(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., Told]:
    monkeypatch.setenv("REDIS_URL", stack.redis_url)
    monkeypatch.setenv("DATABASE_URL", stack.database_url)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))

    def run(*arguments: str) -> Told:
        capsysbinary.readouterr()
        code = main([*arguments, "--json"])
        return code, [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]

    return run


def test_events_come_from_the_log_and_the_archive_in_the_order_of_time(
    stack: Stack, swaplog: Callable[..., Told]
) -> None:
    whole = {entry.fields["id"] for entry in stack.everything()}
    code, told = swaplog("events")
    assert code == 0
    assert [e["id"] for e in told] == [e["id"] for e in sorted(told, key=lambda e: int(_ms(e)))]
    assert {e["id"] for e in told} == whole

    stack.trim()
    assert len(stack.with_log(lambda log: log.history(stack.orders["user-0"]))) <= 1
    assert swaplog("events") == (0, told)


def test_events_of_one_order_user_or_type(stack: Stack, swaplog: Callable[..., Told]) -> None:
    order = stack.orders["user-3"]
    code, told = swaplog("events", order)
    assert code == 0
    assert [e["type"] for e in told] == [
        "OrderRequested",
        "RoutingStarted",
        "RouteSelected",
        "TxSubmitted",
        "TxConfirmed",
    ]
    assert told[0]["data"]["token_in"] == "SOL"
    assert swaplog("events", "--user", "user-3")[1] == told
    assert swaplog("events", order, "--type", "TxConfirmed", "--type", "TxSubmitted")[1] == told[3:]
    assert swaplog("events", "--since", "1h", "--user", "user-3")[1] == told
    assert swaplog("events", "--until", "1h") == (0, [])
    assert swaplog("events", "--user", "") == (0, [])


def test_a_replay_tells_where_each_event_is_kept(stack: Stack, swaplog: Callable[..., Told]) -> None:
    stack.trim()
    code, told = swaplog("replay", stack.orders["user-0"])
    assert code == 0
    assert [e["order"]["status"] for e in told] == ["PENDING", "ROUTING", "BUILDING", "SUBMITTED", "CONFIRMED"]
    assert [e["stores"] for e in told[:-1]] == [["archive"]] * 4

    code, told = swaplog("replay", stack.orders["late"])
    assert told[-1]["stores"] == ["log"]


def test_an_unknown_order_is_a_sentence_and_exit_1(stack: Stack, swaplog: Callable[..., Told]) -> None:
    known = stack.orders["user-0"]
    unknown = ("0" if known[0] != "0" else "1") + known[1:]
    for command in ("replay", "events"):
        for order in (unknown, "nonsense", known[:-3] + "00f", "x" + known[1:], ""):
            assert swaplog(command, order) == (EXIT_DIFFERS, [])


def test_status_tells_how_far_the_projection_is(stack: Stack, swaplog: Callable[..., Told]) -> None:
    code, (status,) = swaplog("status")
    assert code == 0
    assert sum(row["lag"] for row in status["partitions"]) == len(STORY) + 1
    assert status["backlog"] == {"router": 7, "executor": 0}
    assert status["parked"] == 0
    assert 0 < status["memory"]["used"] < status["memory"]["allowed"] == 1024 * 1024 * 1024
    assert status["memory"]["state"] == "ok"


@pytest.mark.parametrize("command", ["events", "status", "parked"])
def test_without_redis_there_is_one_line_and_exit_3(
    swaplog: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("REDIS_URL", NOWHERE)
    assert swaplog(command) == (EXIT_UNREACHABLE, [])


def test_without_postgres_the_log_still_answers(
    stack: Stack, swaplog: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    code, told = swaplog("replay", stack.orders["late"])
    assert code == 0
    assert all(e["stores"] == ["log"] for e in told)
    code, (status,) = swaplog("status")
    assert [row["lag"] for row in status["partitions"]] == [None] * PARTITIONS
    assert "127.0.0.1" in status["archive"]


def test_without_postgres_an_order_of_the_archive_is_not_called_unknown(
    stack: Stack,
    swaplog: Callable[..., Told],
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    stack.trim()
    known = stack.orders["user-0"]
    forgotten = ("0" if known[0] != "0" else "1") + known[1:]
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    for arguments in (["replay", known], ["replay", forgotten], ["events", forgotten]):
        assert main(arguments) == EXIT_UNREACHABLE
        assert b"the archive cannot be asked" in capsysbinary.readouterr().err


@pytest.mark.parametrize("shape", [["--json"], []], ids=["json", "text"])
def test_whoever_has_read_enough_is_no_error(swaplog: Callable[..., Told], shape: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "services.ops", "events", *shape]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="elsewhere than on Linux no disk is full at will")
@pytest.mark.parametrize("shape", [["--json"], []], ids=["json", "text"])
def test_a_full_disk_is_told_and_no_difference_of_the_stores(swaplog: Callable[..., Told], shape: list[str]) -> None:
    with Path("/dev/full").open("w") as report:
        command = [sys.executable, "-m", "services.ops", "status", *shape]
        done = subprocess.run(command, stdout=report, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (EXIT_UNREACHABLE, b"swaplog: cannot write: No space left on device\n")


def test_other_partitions_than_the_logs_are_a_usage_error(
    swaplog: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTITIONS", "8")
    assert swaplog("status") == (EXIT_USAGE, [])


def test_an_empty_redis_stays_empty(stack: Stack, swaplog: Callable[..., Told]) -> None:
    with stack.client() as client:
        client.flushall()
    assert swaplog("events") == (EXIT_UNREACHABLE, [])
    with stack.client() as client:
        assert client.dbsize() == 0


def _ms(event: dict[str, Any]) -> str:
    return str(event["cursor"]).split(":")[2].split("-")[0]
