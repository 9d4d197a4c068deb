"""The page for integrators: every line of it runs, names what is there, and gives no more rights than it says."""

import asyncio
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis, RedisCluster
from redis.exceptions import MovedError, NoPermissionError

from libs.events.envelope import FIELD_NAMES
from libs.events.model import EVENT_TYPES
from libs.events.redis_keys import TAGS, Keys
from libs.events.redis_log import open_redis_log
from tests.e2e.integrators_rig import PAGE, PARTITIONS, TAP, ids, orders_happen, tap


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
    page = PAGE.read_text()
    row = next(line for line in page.splitlines() if line.startswith("| tag |"))
    assert re.findall(r"`(\w+)`", row) == TAGS[:16]
    assert " ".join(TAGS) in " ".join(TAP.read_text().split())
    table = page.partition("## An entry")[2]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == FIELD_NAMES
    assert all(f"`{name}`" in table for name in EVENT_TYPES)
