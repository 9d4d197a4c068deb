"""What `swaplog status` says of the room there is."""

from io import StringIO

import pytest
from rich.console import Console

from libs.events.upkeep import Pressure
from services.ops.status import MIB, memory_of, print_status


@pytest.mark.parametrize(
    ("used", "redis_allows", "said"),
    [
        (79 * MIB, 0, "79 of 100 MiB\n"),
        (80 * MIB, 0, "80 of 100 MiB: orders that wait for a price are refused, archived events trimmed early\n"),
        (101 * MIB, 0, "101 of 100 MiB: new orders are refused\n"),
        (46 * MIB, 50 * MIB, "46 of 45 MiB: new orders are refused\n"),
    ],
)
def test_who_looks_is_told_before_orders_are_refused(used: int, redis_allows: int, said: str) -> None:
    memory = memory_of(Pressure(0, used, redis_allows, 0), 100 * MIB)
    told = StringIO()
    status = {"epoch": "e", "partitions": [], "backlog": {}, "parked": 0, "memory": memory, "archive": "ok"}
    print_status(status, Console(file=told, width=120))
    assert told.getvalue().endswith(f"memory    {said}")
