"""What can be measured: each part by itself, on the stack it is given or on stores of its own."""

from argparse import Namespace
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from libs.events.reactions import EXECUTOR, ROUTER
from tests.bench import appends, beside, cluster, fanout, growth, history, load, projecting, rest, workers
from tests.bench.cpu import CpuMeter
from tests.bench.figures import Result, medians
from tests.bench.hello import hello_posts
from tests.bench.target import Target
from tests.bench.users import Crowd, gathered

Measure = Callable[["World"], Awaitable[Result]]


class World:
    """What a part may use. `target`: only parts that are measured on a stack."""

    def __init__(self, given: Namespace, aof: str, target: Target | None = None) -> None:
        self.given, self.aof = given, aof
        self._target = target
        self._crowd: Crowd | None = None

    @property
    def has_target(self) -> bool:
        return self._target is not None

    @property
    def target(self) -> Target:
        assert self._target, "this part is measured without a stack"
        return self._target

    @property
    def cpu(self) -> CpuMeter:
        return CpuMeter(self.target.pids)

    async def crowd(self) -> Crowd:
        """Users, signed up when first asked for, and servers that are warm: cold ones take up to twice as long."""
        if self._crowd is None:
            self._crowd = await gathered(self.target.base_url, self.given.users)
            warm_up = max(1, self.given.orders // 3)
            await load.throughput(self._crowd, self.cpu, orders=warm_up, connections=self.given.connections)
        return self._crowd


@dataclass(frozen=True)
class Part:
    """`on_stack`: needs one; else it starts what it needs. `each_aof`: once for each way to sync, else once.

    `full`: takes long, so only when everything is wanted. `asked`: only by its name.
    """

    measure: Measure
    on_stack: bool = False
    each_aof: bool = True
    full: bool = False
    asked: bool = False


def chosen(given: Namespace) -> list[str]:
    """Names of the parts that are wanted."""
    if given.beside and not given.only:
        return ["beside"]
    return given.only or [name for name, part in PARTS.items() if (given.full or not part.full) and not part.asked]


async def _throughput(world: World) -> Result:
    crowd, given = await world.crowd(), world.given
    runs = [
        await load.throughput(crowd, world.cpu, orders=given.orders, connections=given.connections)
        for _ in range(given.runs)
    ]
    return {**medians(runs), "runs": runs}


async def _watched(world: World) -> Result:
    given = world.given
    return await load.watched(await world.crowd(), world.cpu, orders=given.orders, connections=given.connections)


async def _batches(world: World) -> Result:
    crowd, given = await world.crowd(), world.given
    found: Result = {}
    for size in given.batches:
        # As many orders on their way as there are connections in the other runs, but for two requests at the least.
        lines = max(2, given.connections // size)
        runs = [
            await load.throughput(crowd, world.cpu, orders=given.orders, connections=lines, size=size)
            for _ in range(given.runs)
        ]
        found[str(size)] = {**medians(runs), "runs": runs}
    return found


async def _latency(world: World) -> Result:
    given = world.given
    options = {"rate": given.rate, "seconds": given.seconds, "connections": given.connections}
    return await load.latency(await world.crowd(), world.cpu, **options)


async def _beside(world: World) -> Result:
    return await beside.measure(world.given, await world.crowd(), world.cpu)


async def _hello(world: World) -> Result:
    return await hello_posts(world.given.limit_count * 2, world.given.connections)


async def _appends(world: World) -> Result:
    return await appends.measure(world.aof, world.given.limit_count)


async def _router(world: World) -> Result:
    return await workers.measure(ROUTER, world.aof, world.given.limit_count)


async def _executor(world: World) -> Result:
    return await workers.measure(EXECUTOR, world.aof, world.given.limit_count)


async def _projector(world: World) -> Result:
    return await projecting.measure(world.given.limit_count)


async def _rest(world: World) -> Result:
    return await rest.at_rest(world.cpu, world.given.seconds)


async def _fanout(world: World) -> Result:
    return await fanout.measure(world.aof, world.given.sockets)


async def _history(world: World) -> Result:
    return await history.measure(world.aof, world.given.history)


async def _growth(world: World) -> Result:
    given = world.given
    options = {"levels": given.levels, "orders": given.orders, "connections": given.connections}
    return await growth.measure(world.target, await world.crowd(), world.cpu, **options)


async def _cluster(world: World) -> Result:
    given = world.given
    options = {"orders": given.orders, "connections": given.connections, "users": given.users, "runs": given.runs}
    return await cluster.measure(world.aof, **options)


async def _start(_world: World) -> Result:
    return await rest.started()


PARTS: dict[str, Part] = {
    "throughput": Part(_throughput, on_stack=True),
    "watched": Part(_watched, on_stack=True),
    "batches": Part(_batches, on_stack=True),
    "latency": Part(_latency, on_stack=True),
    "rest": Part(_rest, on_stack=True),
    "beside": Part(_beside, on_stack=True, asked=True),
    "hello": Part(_hello, each_aof=False),
    "appends": Part(_appends),
    "router": Part(_router),
    "executor": Part(_executor),
    "projector": Part(_projector, each_aof=False),
    "start": Part(_start, each_aof=False),
    "history": Part(_history, each_aof=False, full=True),
    "growth": Part(_growth, on_stack=True, each_aof=False, full=True),
    "cluster": Part(_cluster, each_aof=False, full=True),
    "fanout": Part(_fanout, each_aof=False, full=True),
}
