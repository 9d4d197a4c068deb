"""What clients and integrators are shown is run, each as its own process."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web
from redis import Redis, RedisCluster

from deploy.local.ports import Claims
from libs.events.ids import partition_of_user
from libs.events.redis_keys import Keys
from libs.service.health import serve
from tests.e2e.integrators_rig import PARTITIONS, ROOT, TAP, ids, orders_happen, tap
from tests.servers import flush_redis


def test_the_tap_tells_every_event_once_and_goes_on_where_it_was(log_url: str, tmp_path: Path) -> None:
    first = orders_happen(log_url, *(f"user-{number}" for number in range(8)))
    assert sorted(ids(tap(log_url, tmp_path))) == sorted(first)
    assert ids(tap(log_url, tmp_path)) == []

    second = orders_happen(log_url, "user-1", "user-9")
    assert sorted(ids(tap(log_url, tmp_path))) == sorted(second)


def test_the_tap_reads_a_cluster(cluster_url: str, tmp_path: Path) -> None:
    with RedisCluster.from_url(cluster_url) as client:
        client.flushall(target_nodes=RedisCluster.PRIMARIES)
    first = orders_happen(cluster_url, *(f"user-{number}" for number in range(8)))
    assert sorted(ids(tap(cluster_url, tmp_path))) == sorted(first)
    assert ids(tap(cluster_url, tmp_path)) == []

    second = orders_happen(cluster_url, "user-1", "user-9")
    command = [sys.executable, str(TAP), "--url", cluster_url, "--cursors", str(tmp_path / "tap.cursors")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        told = [json.loads(following.stdout.readline())["id"] for _ in second]
        later = orders_happen(cluster_url, "user-2")
        told += [json.loads(following.stdout.readline())["id"] for _ in later]
        following.terminate()  # where tests run in the background, SIGINT is ignored by all they start
    assert sorted(told) == sorted([*second, *later])


def test_a_crash_before_the_cursor_is_saved_repeats_and_loses_nothing(log_url: str, tmp_path: Path) -> None:
    orders_happen(log_url, "user-1")
    tap(log_url, tmp_path)
    saved = (tmp_path / "tap.cursors").read_text()
    later = orders_happen(log_url, "user-1")
    assert ids(tap(log_url, tmp_path)) == later
    (tmp_path / "tap.cursors").write_text(saved)

    assert ids(tap(log_url, tmp_path)) == later


def test_the_tap_stops_on_a_hole(log_url: str, tmp_path: Path) -> None:
    orders_happen(log_url, "user-1")
    tap(log_url, tmp_path)
    orders_happen(log_url, "user-1")
    with Redis.from_url(log_url, decode_responses=True) as client:
        stream = next(key for key in client.scan_iter("orders:*:log") if client.xlen(key))
        lost, _ = client.xrange(stream)[6]
        client.xdel(stream, lost)
    done = tap(log_url, tmp_path)

    assert done.returncode == 1
    assert [json.loads(line)["version"] for line in done.stdout.splitlines()] == ["1"]
    assert "expected position 7, found 8: entries are missing" in done.stderr
    assert "docs/integrators.md" in done.stderr, "a person must look, and there it says where"
    assert tap(log_url, tmp_path).returncode == 1


def test_the_tap_says_so_while_a_lost_log_is_restored(log_url: str, tmp_path: Path) -> None:
    orders_happen(log_url, "user-1")
    with Redis.from_url(log_url) as client:
        for key in client.scan_iter("orders:*:meta"):
            client.delete(key)
            client.hset(key, "mender", "whoever restores it")
    done = tap(log_url, tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "the log is being restored" in done.stderr
    assert not (tmp_path / "tap.cursors").exists()


def test_the_tap_does_not_read_another_log_with_old_cursors(log_url: str, tmp_path: Path) -> None:
    orders_happen(log_url, "user-1")
    tap(log_url, tmp_path)
    flush_redis(log_url)
    orders_happen(log_url, "user-1")
    done = tap(log_url, tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert "Redis was emptied, restored or exchanged" in done.stderr


def test_the_tap_says_when_there_is_no_log(log_url: str, tmp_path: Path) -> None:
    done = tap(log_url, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no log of Swaplog" in done.stderr


def test_a_trimmed_beginning_is_said_and_is_no_hole(log_url: str, tmp_path: Path) -> None:
    told = orders_happen(log_url, "user-1")
    with Redis.from_url(log_url, decode_responses=True) as client:
        stream = next(key for key in client.scan_iter("orders:*:log") if client.xlen(key))
        client.xtrim(stream, maxlen=2, approximate=False)
    done = tap(log_url, tmp_path)

    assert ids(done) == told[-2:]
    assert "begins at position 4: older ones are trimmed" in done.stderr


def test_what_was_trimmed_of_a_partition_that_was_empty_is_a_hole(log_url: str, tmp_path: Path) -> None:
    (first,) = {event_id.partition("/")[0] for event_id in orders_happen(log_url, "user-1")}
    tap(log_url, tmp_path)
    others = {partition_of_user(user, PARTITIONS): user for user in ("user-0", "user-2", "user-3", "user-4")}
    partition, user = next(pair for pair in others.items() if pair[0] != int(first[-3:], 16))
    orders_happen(log_url, user)
    with Redis.from_url(log_url, decode_responses=True) as client:
        client.xtrim(Keys(partition).log, maxlen=2, approximate=False)
    done = tap(log_url, tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert f"partition {partition}: expected position 1, found 4: entries are missing" in done.stderr


def test_a_partition_of_which_nothing_is_left_goes_on_where_it_ended(log_url: str, tmp_path: Path) -> None:
    orders_happen(log_url, "user-1")
    with Redis.from_url(log_url, decode_responses=True) as client:
        client.xtrim(Keys(partition_of_user("user-1", PARTITIONS)).log, maxlen=0, approximate=False)
    assert ids(tap(log_url, tmp_path)) == []

    later = orders_happen(log_url, "user-1")
    assert ids(tap(log_url, tmp_path)) == later


@pytest.mark.parametrize("cursors", ["nothing of ours", "{epoch}:9:1-1", "{epoch}:0"])
def test_a_file_that_holds_no_cursors_is_one_line(log_url: str, tmp_path: Path, cursors: str) -> None:
    orders_happen(log_url, "user-1")
    tap(log_url, tmp_path)
    saved = tmp_path / "tap.cursors"
    saved.write_text(cursors.replace("{epoch}", saved.read_text().partition(":")[0]))
    done = tap(log_url, tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "tap.cursors" in done.stderr


def test_what_cannot_be_used_is_one_line_before_anything_is_told(log_url: str, tmp_path: Path) -> None:
    orders_happen(log_url, "user-1")
    for done in (tap(log_url, tmp_path, "not there/tap.cursors"), tap("http://127.0.0.1:1", tmp_path)):
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("example", ["swap.py http://127.0.0.1:{port}", "watch.py http://127.0.0.1:{port} token"])
def test_an_example_without_a_running_stack_is_one_line(example: str, claimed: Claims) -> None:
    name, *arguments = example.format(port=claimed.free("127.0.0.1")).split()
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert "Cannot connect" in done.stderr


@pytest.mark.parametrize(("token", "told"), [("old", "log in again (401)"), ("good", "no such order (404)")])
async def test_who_may_not_watch_is_told_why(token: str, told: str) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=404 if request.headers["Authorization"] == "Bearer good" else 401)

    app = web.Application()
    app.add_routes([web.get("/api/ws/orders", refuse)])
    async with serve(app, "127.0.0.1", 0) as port:
        command = [sys.executable, str(ROOT / "examples" / "watch.py"), f"http://127.0.0.1:{port}", token, "an order"]
        watching = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, said = await watching.communicate()
    assert (watching.returncode, said.decode().count("\n")) == (1, 1)
    assert told in said.decode()
