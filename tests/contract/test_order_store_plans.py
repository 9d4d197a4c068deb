"""What a page costs does not depend on how much lies behind it: Postgres' own plans and counts say so."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from libs.orders import sql
from tests.builders import NOW

ORDERS_OF_ONE = 20_000
EVENTS_OF_ORDER = 5
PAGE = 50
# Of an index this size: the way down, and the leaves a page's entries are on.
INDEX_PAGES = 8

FILL_ORDERS = """
INSERT INTO orders (id, user_id, version, status, token_in, token_out, amount_in, created_at, updated_at, latest)
SELECT (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000000')::uuid,
       CASE WHEN n % 5 = 0 THEN 'other' ELSE 'one' END, 5, 'CONFIRMED', 'SOL', 'USDC', 1, now(), now(),
       '{1,2,3,4,5}'
FROM generate_series(1, $1::integer) AS n"""
FILL_EVENTS = """
INSERT INTO events SELECT 0, n, (n - 1) % $2::integer + 1, n, now(), (lpad(to_hex((n - 1) / $2::integer + 1), 8, '0') ||
       '-0000-7000-8000-000000000000')::uuid, 1, 'e', 'T', 's', 'one', '', '', repeat('x', 500), NULL
FROM generate_series(1, $1::integer * $2::integer) AS n"""


@pytest.fixture
async def direct(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    await connection.execute(sql.SESSION)
    if not await connection.fetchval("SELECT count(*) FROM orders"):
        await connection.execute(FILL_ORDERS.replace("$1::integer", str(ORDERS_OF_ONE * 5 // 4)))
        fill = FILL_EVENTS.replace("$1::integer", str(ORDERS_OF_ONE)).replace("$2::integer", str(EVENTS_OF_ORDER))
        await connection.execute(fill)
        await connection.execute("ANALYZE")
    yield connection
    await connection.close()


def order_id(number: int) -> UUID:
    return UUID(f"{number:08x}-0000-7000-8000-000000000000")


async def explained(connection: asyncpg.Connection, query: str, *values: object) -> list[dict[str, Any]]:
    """Every node of the plan that is used again and again, run once; the first is the whole."""
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    text = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *values)
    return list(_nodes(json.loads(text)[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def buffers(nodes: list[dict[str, Any]]) -> int:
    return int(nodes[0]["Shared Hit Blocks"]) + int(nodes[0]["Shared Read Blocks"])


def assert_nothing_is_sorted_or_thrown_away(nodes: list[dict[str, Any]]) -> None:
    assert not [node for node in nodes if "Sort" in node["Node Type"] or node["Node Type"] == "Seq Scan"]
    assert not [node for node in nodes if node.get("Rows Removed by Filter")]


@pytest.mark.parametrize("depth", [25_001, 12_500, 500], ids=["newest", "middle", "nearly the oldest"])
async def test_a_page_of_a_users_orders_reads_so_many_entries_whatever_its_depth(
    direct: asyncpg.Connection, depth: int
) -> None:
    nodes = await explained(direct, sql.NEWEST_BEFORE, "one", order_id(depth), PAGE)
    assert_nothing_is_sorted_or_thrown_away(nodes)
    assert [node["Index Name"] for node in nodes if "Index Name" in node] == ["orders_of_user"]
    assert nodes[0]["Actual Rows"] == PAGE
    assert buffers(nodes) <= PAGE + INDEX_PAGES


async def test_the_first_page_is_one_like_any_other(direct: asyncpg.Connection) -> None:
    nodes = await explained(direct, sql.NEWEST_BEFORE, "one", sql.NEWEST_ID, PAGE)
    assert_nothing_is_sorted_or_thrown_away(nodes)
    assert buffers(nodes) <= PAGE + INDEX_PAGES


async def test_a_list_from_some_time_on_begins_at_its_place(direct: asyncpg.Connection) -> None:
    """`to` is a cursor made of the time, `from` ends the reading: both are the same page."""
    nodes = await explained(direct, sql.NEWEST_BEFORE, "one", UUID("00001000-0000-7000-8000-000000000000"), PAGE)
    assert_nothing_is_sorted_or_thrown_away(nodes)
    assert buffers(nodes) <= PAGE + INDEX_PAGES


@pytest.mark.parametrize("number", [1, 10_000, 19_999])
async def test_the_history_of_an_order_reads_its_events_and_no_other(direct: asyncpg.Connection, number: int) -> None:
    nodes = await explained(direct, sql.HISTORY, order_id(number))
    assert not [node for node in nodes if node.get("Rows Removed by Filter") or node["Node Type"] == "Seq Scan"]
    assert nodes[0]["Actual Rows"] == EVENTS_OF_ORDER
    assert buffers(nodes) <= EVENTS_OF_ORDER + INDEX_PAGES


@pytest.mark.parametrize("after", [0, 50_000, 99_000])
async def test_a_page_of_the_archive_is_read_in_place(direct: asyncpg.Connection, after: int) -> None:
    nodes = await explained(direct, sql.ARCHIVED, 0, after, PAGE)
    assert_nothing_is_sorted_or_thrown_away(nodes)
    assert nodes[0]["Actual Rows"] == PAGE
    assert buffers(nodes) <= PAGE + INDEX_PAGES


async def test_an_order_is_found_by_the_clients_id_in_one_look(direct: asyncpg.Connection) -> None:
    nodes = await explained(direct, sql.BY_CLIENT_ID, "one", "none-has-this")
    assert [node["Index Name"] for node in nodes if "Index Name" in node] == ["orders_client_id"]
    assert buffers(nodes) <= INDEX_PAGES


async def test_the_events_of_a_pages_orders_are_found_one_by_one(direct: asyncpg.Connection) -> None:
    ids = [order_id(number) for number in range(10_000, 10_000 + PAGE) for _ in range(EVENTS_OF_ORDER)]
    versions = list(range(1, EVENTS_OF_ORDER + 1)) * PAGE
    nodes = await explained(direct, sql.NAMED, ids, versions)
    assert not [node for node in nodes if node.get("Rows Removed by Filter") or node["Node Type"] == "Seq Scan"]
    assert nodes[0]["Actual Rows"] == len(ids)
    assert buffers(nodes) <= len(ids) * INDEX_PAGES


async def test_orders_that_go_on_are_found_one_by_one(direct: asyncpg.Connection) -> None:
    ids, count = [order_id(number) for number in range(10_000, 10_000 + PAGE)], PAGE
    after = ([5] * count, [6] * count, ["CONFIRMED"] * count, [None] * count, [NOW] * count, ["{1,2,3,4,6}"] * count)
    transaction = direct.transaction()
    await transaction.start()
    nodes = await explained(direct, sql.CHANGE_ORDERS, ids, *after)
    await transaction.rollback()
    assert [node["Index Name"] for node in nodes if "Index Name" in node] == ["orders_pkey"]
    assert max(int(node["Actual Rows"]) * int(node["Actual Loops"]) for node in nodes) == count
