"""`swaplog parked`, `redrive` and `discard` against real stores."""

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from libs.events.ids import partition_of
from libs.events.log import Committed
from libs.events.model import Event, Status
from libs.events.redis_keys import Keys
from libs.events.redis_log import RedisLog
from services.ops.__main__ import main
from services.ops.stack import EXIT_DIFFERS, EXIT_UNREACHABLE, EXIT_USAGE
from tests.builders import a_request, route_selected, routing_started, then, tx_confirmed, tx_submitted
from tests.contract.ops_rig import PARTITIONS, T, with_log
from tests.servers import flush_redis

FULL = Path("/dev/full")


class Swaplog:
    """The command, and the log it is about."""

    def __init__(self, redis_url: str, output: pytest.CaptureFixture[bytes]) -> None:
        self._redis_url, self._output = redis_url, output

    def run(self, *arguments: str) -> int:
        self._output.readouterr()
        return main([*arguments])

    def said(self) -> str:
        return self._output.readouterr().out.decode()

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        assert self.run("parked", *arguments, "--json") == 0
        return [json.loads(line) for line in self.said().splitlines()]

    def log(self, work: Callable[[RedisLog], Awaitable[T]]) -> T:
        return with_log(self._redis_url, work)

    def park(self, count: int, reason: str = "ValueError: [/bold] no such pool") -> list[str]:
        async def park(log: RedisLog) -> list[str]:
            for number in range(count):
                step, _ = a_request(PARTITIONS, f"user-{number}")
                assert isinstance(await log.commit(step), Committed)
            parked: list[str] = []
            while len(parked) < count:
                for item in await log.take("router", "operator", 16, 100):
                    assert await log.park(item, reason, f"print-{len(parked) % 2}")
                    parked.append(item.order_id)
            return parked

        return self.log(park)

    def backlog(self) -> int:
        return self.log(lambda log: log.backlog("router"))

    def status(self, order_id: str) -> Status | None:
        snapshot = self.log(lambda log: log.find(order_id))
        return snapshot.order.status if snapshot else None


@pytest.fixture
def swaplog(
    redis_url: str,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> Swaplog:
    flush_redis(redis_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    made = Swaplog(redis_url, capsysbinary)
    assert made.backlog() == 0  # the log is there
    return made


def test_a_parked_item_is_listed_with_all_that_is_known(swaplog: Swaplog) -> None:
    [order] = swaplog.park(1)
    [item] = swaplog.items()

    assert (item["service"], item["order"], item["event"]) == ("router", order, f"{order}/1")
    assert (item["type"], item["deliveries"], item["fingerprint"]) == ("OrderRequested", 1, "print-0")
    assert item["reason"] == "ValueError: [/bold] no such pool"
    assert item["made"] <= item["parked"]
    assert swaplog.run("parked") == 0
    assert "[/bold] no such pool" in swaplog.said()


def test_a_redrive_is_a_dry_run_until_it_is_meant(swaplog: Swaplog) -> None:
    swaplog.park(1)
    [item] = swaplog.items()
    assert swaplog.run("redrive", item["id"]) == 0
    assert "nothing was changed" in swaplog.said()
    assert len(swaplog.items()) == 1
    assert swaplog.backlog() == 0

    assert swaplog.run("redrive", item["id"], "--apply") == 0
    assert swaplog.items() == []
    assert swaplog.backlog() == 1
    assert swaplog.run("redrive", item["id"], "--apply") == EXIT_DIFFERS


def test_a_dry_run_of_a_redrive_tells_what_would_come_of_it(swaplog: Swaplog, redis_url: str) -> None:
    gone, _ = swaplog.park(2)
    with Redis.from_url(redis_url) as client:
        client.delete(Keys(partition_of(gone)).order(gone))
    dry, dry_said = swaplog.run("redrive", "--all"), swaplog.said()
    assert dry == swaplog.run("redrive", "--all", "--apply") == EXIT_DIFFERS
    for said in (dry_said, swaplog.said()):
        assert f"order {gone}  left" in said
        assert said.count("left") == 1


def test_all_or_all_of_one_kind_are_redriven(swaplog: Swaplog) -> None:
    swaplog.park(6)
    assert swaplog.run("redrive", "--all", "--fingerprint", "print-1", "--rate", "1000", "--apply") == 0
    assert {item["fingerprint"] for item in swaplog.items()} == {"print-0"}
    assert swaplog.backlog() == 3
    assert swaplog.run("redrive", "--all", "--service", "executor", "--apply") == 0
    assert swaplog.run("redrive", "--all", "--fingerprint", "", "--apply") == 0
    assert swaplog.backlog() == 3
    assert swaplog.run("redrive", "--all", "--rate", "1000", "--apply") == 0
    assert swaplog.backlog() == 6


def test_however_many_are_parked_each_is_found(swaplog: Swaplog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ops.parking.ASKED_FIRST", 2)
    swaplog.park(7)
    items = swaplog.items()
    assert len(items) == 7
    assert len(swaplog.items("--fingerprint", "print-1")) == 3
    assert swaplog.run("redrive", items[-1]["id"], "--apply") == 0
    assert swaplog.run("redrive", "--all", "--rate", "1000", "--apply") == 0
    assert (swaplog.items(), swaplog.backlog()) == ([], 7)


def test_a_redrive_that_is_meant_is_done_also_when_nobody_reads_on(swaplog: Swaplog) -> None:
    swaplog.park(6)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "services.ops", "redrive", "--all", "--rate", "1000", "--apply"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (swaplog.items(), swaplog.backlog()) == ([], 6)


@pytest.mark.skipif(not FULL.exists(), reason="elsewhere than on Linux no disk is full at will")
def test_a_redrive_that_is_meant_is_done_also_when_the_disk_is_full(swaplog: Swaplog) -> None:
    swaplog.park(4)
    command = [sys.executable, "-m", "services.ops", "redrive", "--all", "--rate", "1000", "--apply"]
    with FULL.open("w") as report:
        done = subprocess.run(command, stdout=report, stderr=subprocess.PIPE, text=True, check=False)
    assert swaplog.items() == []
    assert (done.returncode, done.stderr) == (EXIT_UNREACHABLE, "swaplog: cannot write: No space left on device\n")


def test_a_discard_needs_a_reason_and_ends_the_order(swaplog: Swaplog) -> None:
    [order] = swaplog.park(1)
    [item] = swaplog.items()
    assert swaplog.run("discard", item["id"]) == EXIT_USAGE
    assert swaplog.run("discard", item["id"], "--reason", " ") == EXIT_USAGE
    assert swaplog.run("discard", item["id"], "--reason", "pool is gone", "--by", "mara") == 0
    assert swaplog.status(order) is Status.PENDING

    assert swaplog.run("discard", item["id"], "--reason", "pool is gone", "--by", "mara", "--apply") == 0
    assert swaplog.status(order) is Status.FAILED
    assert swaplog.items() == []
    [kept] = swaplog.items("--discarded")
    assert (kept["id"], kept["by"], kept["because"]) == (item["id"], "mara", "pool is gone")
    assert swaplog.run("discard", item["id"], "--reason", "again", "--apply") == EXIT_DIFFERS


def test_a_discard_by_a_terminal_that_does_not_speak_utf_8_is_not_half_done(swaplog: Swaplog) -> None:
    [order] = swaplog.park(1)
    [item] = swaplog.items()
    said = ("--by", os.fsdecode(b"J\xfcrg"), "--reason", os.fsdecode(b"f\xfcr immer"))
    assert swaplog.run("discard", item["id"], *said, "--apply") == 0
    assert swaplog.status(order) is Status.FAILED
    assert swaplog.items() == []
    [kept] = swaplog.items("--discarded")
    assert (kept["by"], kept["because"]) == ("J?rg", "f?r immer")


def test_a_dry_run_of_a_discard_tells_what_would_come_of_it(swaplog: Swaplog) -> None:
    async def go_on(log: RedisLog, *bodies: Event) -> None:
        held = await log.find(order)
        assert held is not None
        step, _ = then(held, *bodies)
        assert isinstance(await log.commit(step), Committed)

    [order] = swaplog.park(1)
    [item] = swaplog.items()
    discard = ("discard", item["id"], "--reason", "pool is gone")
    assert swaplog.run(*discard) == 0
    assert f"order {order} end as FAILED" in swaplog.said()

    swaplog.log(lambda log: go_on(log, routing_started(), route_selected(), tx_submitted()))
    assert swaplog.run(*discard) == swaplog.run(*discard, "--apply") == EXIT_DIFFERS
    assert swaplog.run(*discard, "--not-settled") == 0

    swaplog.log(lambda log: go_on(log, tx_confirmed()))
    assert swaplog.run(*discard) == 0
    said = swaplog.said()
    assert f"order {order} stays CONFIRMED" in said
    assert "FAILED" not in said

    swaplog.log(lambda log: log.retire([order]))  # as a minute after it was archived: nobody may be told it never was
    for meant in ((), ("--apply",)):
        assert swaplog.run(*discard, *meant) == 0
        assert "; no order of it is open" in swaplog.said()


@pytest.mark.parametrize("service", ["", "routers"])
def test_a_service_that_is_none_is_not_every_service_and_not_one_without_items(swaplog: Swaplog, service: str) -> None:
    swaplog.park(1)
    assert swaplog.run("parked", "--service", service) == EXIT_USAGE
    assert swaplog.run("redrive", "--all", "--service", service, "--apply") == EXIT_USAGE
    assert swaplog.backlog() == 0


@pytest.mark.parametrize("arguments", [["redrive"], ["redrive", "nonsense"], ["redrive", "--all", "--rate", "0"]])
def test_what_cannot_be_meant_is_a_usage_error(swaplog: Swaplog, arguments: list[str]) -> None:
    assert swaplog.run(*arguments) == EXIT_USAGE
