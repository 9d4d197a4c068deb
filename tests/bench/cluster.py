"""The same load on one Redis and on a cluster of three, with one and with two of the services there may be many of.

What a cluster costs, how its work spreads, and what stands in the way next.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from statistics import median

from tests.bench import load
from tests.bench.cpu import CpuMeter
from tests.bench.figures import Result, medians
from tests.bench.target import Target, own_folder, own_stack, set_aof
from tests.bench.users import gathered
from tests.cluster import Cluster, cluster_in

DOUBLED = {"GATEWAYS": "2", "ROUTERS": "2", "EXECUTORS": "2"}
# Of each there is one for a log, or for its share of it: what it costs is what it can carry.
ONLY_ONES = ("projector", "postgres")
REDIS = "redis"


async def measure(aof: str, *, orders: int, connections: int, users: int, runs: int) -> Result:
    """Throughput and CPU per order of each arrangement.

    Raises:
        ConfigurationError: a stack cannot be started.
    """
    found: Result = {}
    for nodes in (1, 3):
        for name, env in (("", {}), (", services doubled", DOUBLED)):
            async with _stack(aof, nodes, env) as target:
                crowd = await gathered(target.base_url, users)
                cpu = CpuMeter(target.pids)
                await load.throughput(crowd, cpu, orders=max(1, orders // 3), connections=connections)
                figures = [
                    await load.throughput(crowd, cpu, orders=orders, connections=connections) for _ in range(runs)
                ]
            found[f"{nodes} Redis{name}"] = {**medians(figures), "runs": figures, **walls(figures)}
    return found


def walls(runs: list[Result]) -> Result:
    """Orders a second at which a core is full: of what there is one of, and of the busiest Redis."""
    costs: dict[str, float] = {}
    for name in runs[0]["cpu_ms_per_order"]:
        kind = REDIS if name.startswith(REDIS) else name
        if kind in (REDIS, *ONLY_ONES):
            cost = median(run["cpu_ms_per_order"].get(name, 0) for run in runs)
            costs[kind] = max(cost, costs.get(kind, 0))
    return {"carries_per_s": {name: round(1_000 / cost) for name, cost in costs.items() if cost}}


@asynccontextmanager
async def _stack(aof: str, nodes: int, env: Mapping[str, str]) -> AsyncIterator[Target]:
    if nodes == 1:
        async with own_stack(aof, env) as target:
            yield target
        return
    with own_folder() as data:
        async with cluster_in(data, durable=True) as cluster:
            for node in cluster.nodes:
                await set_aof(node.url, aof)
            async with own_stack(aof, {**env, "REDIS_URL": cluster.url}) as target:
                yield replace(target, pids={**target.pids, **_pids(cluster)})


def _pids(cluster: Cluster) -> dict[str, int]:
    return {f"{REDIS}-{number}": node.process.pid for number, node in enumerate(cluster.nodes, start=1)}
