"""Another implementation of the API beside ours: the same load on both, in turn, in the same minutes.

It needs to know sign-up, `POST /api/orders`, `GET /api/orders` and `/api/ws/orders?orderId=…`, nothing else: orders are
seen to end by the last ones' sockets and the lists, and for latencies each order gets a socket of its own. What ours
can do besides (many orders in a request, one socket for all of a user's orders) is measured in the same turns.
"""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from libs.service.settings import ConfigurationError
from tests.bench import load
from tests.bench.cpu import CpuMeter
from tests.bench.figures import Result, medians
from tests.bench.target import on_this_machine
from tests.bench.users import Crowd, gathered

BATCH = 100


def read_pids(text: str) -> dict[str, int]:
    """`name=pid,name=pid`.

    Raises:
        ConfigurationError: it is not of that form.
    """
    try:
        return {name: int(pid) for name, _, pid in (item.partition("=") for item in text.split(","))}
    except ValueError:
        raise ConfigurationError(f"{text!r} is not of the form name=pid,name=pid") from None


async def measure(given: Namespace, crowd: Crowd, cpu: CpuMeter) -> Result:
    """Medians of `runs` turns of each, and ours as so many times theirs.

    Raises:
        ConfigurationError: not on this machine, or no list of processes.
        NotSignedUp: the other one refuses users.
    """
    url, pids = given.beside
    on_this_machine(url)
    their_cpu = CpuMeter(read_pids(pids))
    their_crowd = await gathered(url, given.users)
    warm_up, lines = max(1, given.orders // 3), given.connections
    await load.throughput(their_crowd, their_cpu, orders=warm_up, connections=lines)
    turns: list[Result] = []
    for _ in range(given.runs):
        ours = await load.throughput(crowd, cpu, orders=given.orders, connections=lines)
        theirs = await load.throughput(their_crowd, their_cpu, orders=given.orders, connections=lines)
        batch = await load.throughput(crowd, cpu, orders=given.orders, connections=2, size=BATCH)
        turns.append({"ours": ours, "ours_in_batches": batch, "theirs": theirs})
    opened: list[Result] = []
    open_loop = {"rate": given.rate, "seconds": given.seconds, "connections": lines}
    for _ in range(given.runs):
        ours = await load.latency(crowd, cpu, **open_loop, socket_each=True)
        theirs = await load.latency(their_crowd, their_cpu, **open_loop, socket_each=True)
        shared = await load.latency(crowd, cpu, **open_loop)
        opened.append({"ours": ours, "ours_one_socket_per_user": shared, "theirs": theirs})
    figures: Result = {"throughput": medians(turns), "latency": medians(opened)}
    return {**figures, "runs": [*turns, *opened], "ours_of_theirs": compared(figures)}


def compared(figures: Mapping[str, Any]) -> dict[str, float]:
    """Ours divided by theirs."""
    closed, opened = figures["throughput"], figures["latency"]
    found: dict[str, float] = {}
    for name in ("ours", "ours_in_batches"):
        for figure in ("accepted_per_s", "completed_per_s"):
            found[f"{name} {figure}"] = _ratio(closed[name][figure], closed["theirs"][figure])
        carried, by_them = (closed[each].get("per_s_of_all_cores", 0) for each in (name, "theirs"))
        found[f"{name} per_s_of_all_cores"] = _ratio(carried, by_them)
        ours, theirs = (closed[each]["cpu_ms_per_order"].get("total", 0) for each in (name, "theirs"))
        found[f"{name} cpu_per_order"] = _ratio(ours, theirs)
    for name in ("ours", "ours_one_socket_per_user"):
        for figure in ("post_ms", "confirmed_ms"):
            for quantile in ("p50", "p95", "p99"):
                ours, theirs = (opened[each][figure].get(quantile, 0) for each in (name, "theirs"))
                found[f"{name} {figure} {quantile}"] = _ratio(ours, theirs)
    return found


def _ratio(ours: float, theirs: float) -> float:
    return round(ours / theirs, 2) if theirs else 0.0
