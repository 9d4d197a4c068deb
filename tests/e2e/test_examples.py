"""What integrators are shown is run: the tap as its own process, and every redis-cli line of their page."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web
from redis import Redis, RedisCluster
from redis.exceptions import MovedError, NoPermissionError

from deploy.local.ports import Claims
from libs.events.ids import partition_of_user
from libs.events.log import Committed
from libs.events.redis_keys import Keys
from libs.events.redis_log import open_redis_log
from libs.service.health import serve
from tests.builders import a_request, route_selected, routing_started, then, tx_confirmed, tx_submitted
from tests.servers import flush_redis

ROOT = Path(__file__).parents[2]
TAP = ROOT / "examples" / "tap.py"
PAGE = ROOT / "docs" / "integrators.md"
PARTITIONS = 4
WHOLE_STORY = (routing_started(), route_selected(), tx_submitted(), tx_confirmed())


@pytest.fixture
def log_url(redis_url: str) -> str:
    flush_redis(redis_url)
    return redis_url


def orders_happen(url: str, *users: str) -> list[str]:
    """One whole order per user; gives the ids of all events."""

    async def happen() -> list[str]:
        told: list[str] = []
        async with open_redis_log(url, PARTITIONS) as log:
            await log.start(create=True)
            for user in users:
                step, before = a_request(PARTITIONS, user)
                following, _ = then(before, *WHOLE_STORY)
                for one in (step, following):
                    assert isinstance(await log.commit(one), Committed)
                    told += [event.id for event in one.events]
        return told

    return asyncio.run(happen())


def tap(url: str, folder: Path, cursors: str = "tap.cursors") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TAP), "--url", url, "--cursors", str(folder / cursors), "--once"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def ids(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["id"] for line in done.stdout.splitlines()]


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


def as_reader(url: str) -> str:
    """The URL of the user the page tells of."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://integrator:a-password@{rest.rpartition('@')[2]}"


@pytest.fixture(params=["log_url", "cluster_url"])
def read_only_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A log, as whoever is given no more rights than the page says may see it."""
    url: str = request.getfixturevalue(request.param)
    (line,) = re.findall(r"^ACL SETUSER integrator .*$", PAGE.read_text(), re.MULTILINE)
    with RedisCluster.from_url(url) if request.param == "cluster_url" else Redis.from_url(url) as client:
        everywhere = {"target_nodes": RedisCluster.ALL_NODES} if isinstance(client, RedisCluster) else {}
        if everywhere:
            client.flushall(target_nodes=RedisCluster.PRIMARIES)
        client.execute_command(*shlex.split(line), **everywhere)
        try:
            yield url
        finally:
            client.execute_command("ACL", "DELUSER", "integrator", **everywhere)


def test_the_rights_the_page_gives_are_enough_to_read_and_to_do_nothing_else(
    read_only_url: str, tmp_path: Path
) -> None:
    told = orders_happen(read_only_url, *(f"user-{number}" for number in range(8)))
    assert sorted(ids(tap(as_reader(read_only_url), tmp_path))) == sorted(told)
    keys = Keys(3)
    refused = [
        ("XADD", keys.log, "*", "type", "OrderRequested"),
        ("XTRIM", keys.log, "MAXLEN", "0"),
        ("XGROUP", "CREATE", keys.log, "mine", "0"),
        ("XRANGE", keys.work("executor"), "-", "+"),
        ("HSET", keys.meta, "epoch", "mine"),
        ("HGETALL", keys.idempotency("user-1", "key")),
        ("DEL", keys.log),
        ("FLUSHALL",),
        ("EVAL", "return 1", "0"),
        ("CONFIG", "GET", "requirepass"),
        # Names of keys hold emails, addresses and what clients call their orders.
        ("SCAN", "0"),
        ("KEYS", "*"),
        ("RANDOMKEY",),
    ]
    with Redis.from_url(as_reader(read_only_url)) as client:
        for question in (
            ("PING",),
            ("XLEN", keys.log),
            ("XREVRANGE", keys.log, "+", "-"),
            ("XINFO", "STREAM", keys.log),
        ):
            with suppress(MovedError):  # to the node that has it
                client.execute_command(*question)
        for command in refused:
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)


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


def test_every_redis_line_of_the_page_runs(log_url: str) -> None:
    orders_happen(log_url, *(f"user-{number}" for number in range(8)))
    lines = re.findall(r"```redis\n(.*?)```", PAGE.read_text(), re.DOTALL)
    commands = [line.replace("BLOCK 5000", "BLOCK 1") for block in lines for line in block.splitlines()]
    assert len(commands) >= 6
    with Redis.from_url(log_url, decode_responses=True) as client:
        for command in commands:
            client.execute_command(*shlex.split(command))


def test_what_the_page_says_is_left_of_an_order_is_left(log_url: str) -> None:
    async def let_go(order_id: str) -> None:
        async with open_redis_log(log_url, PARTITIONS) as log:
            await log.start()
            await log.retire([order_id])  # as the janitor does a minute after the end

    (order_id,) = {event_id.partition("/")[0] for event_id in orders_happen(log_url, "user-1")}
    asyncio.run(let_go(order_id))
    row = next(line for line in PAGE.read_text().splitlines() if ":order:<order id>`" in line)
    with Redis.from_url(log_url, decode_responses=True) as client:
        (key,) = client.scan_iter(f"orders:*:order:{order_id}")
        assert set(client.hkeys(key)) == set(re.findall(r"`(\w+)`", row))
        assert 0 < client.ttl(key) <= 24 * 60 * 60


def test_the_page_names_the_true_keys_and_fields(log_url: str) -> None:
    from libs.events.envelope import FIELD_NAMES  # noqa: PLC0415
    from libs.events.model import EVENT_TYPES  # noqa: PLC0415
    from libs.events.redis_keys import TAGS  # noqa: PLC0415

    page = PAGE.read_text()
    row = next(line for line in page.splitlines() if line.startswith("| tag |"))
    assert re.findall(r"`(\w+)`", row) == TAGS[:16]
    assert " ".join(TAGS) in " ".join(TAP.read_text().split())
    table = page.partition("## An entry")[2]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == FIELD_NAMES
    assert all(f"`{name}`" in table for name in EVENT_TYPES)
