"""Every connection of every service made bad in every way: orders end once, nobody hangs, a lost reply is no order."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from deploy.local import supervisor
from deploy.local.roster import STOP_ORDER, Service
from deploy.local.stack import Stack
from libs.events.envelope import Envelope
from libs.events.reactions import TERMINAL
from tests.checker import all_terminal, check_everything, histories, statuses, whole_log
from tests.fault.proxy import Proxy, proxy
from tests.fault.test_crash_points import ENVIRONMENT
from tests.fault.traffic import FaultyClient, History, Watcher, signed_up_somehow, until_cancelled
from tests.verdict import judge_socket
from tests.waiting import eventually

LINKS = {
    "redis": ("gateway", "router", "executor", "projector", "notifier"),
    "postgres": ("gateway", "projector", "notifier"),
    "chain": ("router", "executor"),
    "notifier": ("gateway",),
}
ORDERS = 6
RESETS = 10
SOCKET_RESETS = 3
# The request whose reply is lost, and who sends it.
LOST = {
    "redis": (b"EVALSHA", ("gateway", "router", "executor")),
    "postgres": (b"COMMIT", ("projector",)),
    "chain": (b"sendTransaction", ("executor",)),
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class World:
    """The stack, with a proxy in every connection that leaves a service."""

    stack: Stack
    proxies: dict[str, dict[str, Proxy]]
    history: History = field(default_factory=History)

    def all_of(self, kind: str) -> list[Proxy]:
        return list(self.proxies[kind].values())

    def heal(self) -> None:
        for each in self.proxies.values():
            for one in each.values():
                one.toxics.heal()


@asynccontextmanager
async def proxied_stack(folder: Path) -> AsyncIterator[World]:
    """Every service has the proxies' addresses for those of stores, chain and notifier."""
    running: list[Stack] = []
    targets: dict[str, Callable[[], str]] = {
        "redis": lambda: running[0].redis_url,
        "postgres": lambda: running[0].database_url,
        "chain": lambda: f"http://127.0.0.1:{running[0].ports.localnet}",
        "notifier": lambda: f"http://127.0.0.1:{running[0].ports.notifier}",
    }
    async with AsyncExitStack() as undo:
        proxies = {
            kind: {name: await undo.enter_async_context(proxy(targets[kind])) for name in names}
            for kind, names in LINKS.items()
        }
        roster = [Service(name, ("/usr/bin/env", *_env(name, proxies), *_python(name))) for name in STOP_ORDER]
        stack = Stack(folder, env=ENVIRONMENT, roster=roster, durable=True)
        running.append(stack)
        await undo.enter_async_context(stack)
        yield World(stack, proxies)


def _python(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"services.{name}")


def _env(name: str, proxies: dict[str, dict[str, Proxy]]) -> list[str]:
    at = {kind: f"127.0.0.1:{each[name].port}" for kind, each in proxies.items() if name in each}
    urls: dict[str, str] = {}
    if "redis" in at:
        urls["REDIS_URL"] = f"redis://{at['redis']}/0"
    if "postgres" in at:
        urls["DATABASE_URL"] = f"postgresql://postgres@{at['postgres']}/swaplog"
    if "notifier" in at:
        urls["NOTIFIER_URL"] = f"http://{at['notifier']}"
    if "chain" in at:
        urls["CHAIN_RPC_URL"] = f"http://{at['chain']}"
        urls["VENUES"] = ",".join(f"{venue}=http://{at['chain']}/venues/{venue}" for venue in ("raydium", "meteora"))
    return [f"{key}={url}" for key, url in urls.items()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "RESTART_FORGET_S", 0)
        async with proxied_stack(tmp_path_factory.mktemp("proxied") / "data") as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(world: World) -> AsyncIterator[FaultyClient]:
    async with signed_up_somehow(world.stack.base_url, world.history) as user:
        yield user


@asynccontextmanager
async def ordering(world: World, client: FaultyClient) -> AsyncIterator[None]:
    """Orders are placed while the block runs; after it, once all is well again, every one of them ends."""
    placing = [asyncio.create_task(client.accepted()) for _ in range(ORDERS)]
    try:
        yield
    finally:
        world.heal()
    placed = await asyncio.gather(*placing)
    await all_terminal(world.stack, placed)
    await world.stack.until_ready()
    hung, world.history.hung = world.history.hung, []
    assert hung == []
    assert world.history.contradictions == []


async def ended(world: World, client: FaultyClient) -> None:
    await all_terminal(world.stack, [await client.accepted() for _ in range(2)])


@pytest.mark.parametrize("kind", ["redis", "postgres", "chain"])
async def test_a_slow_connection_only_makes_orders_slow(world: World, client: FaultyClient, kind: str) -> None:
    async with ordering(world, client):
        for each in world.all_of(kind):
            each.toxics.latency_s = 0.05
        await ended(world, client)


@pytest.mark.parametrize("kind", ["redis", "postgres", "chain"])
async def test_replies_in_pieces_of_one_byte_are_put_together(world: World, client: FaultyClient, kind: str) -> None:
    async with ordering(world, client):
        for each in world.all_of(kind):
            each.toxics.slice_bytes = 1
        await ended(world, client)


@pytest.mark.parametrize("kind", ["redis", "postgres", "chain", "notifier"])
async def test_connections_reset_again_and_again(world: World, client: FaultyClient, kind: str) -> None:
    async with ordering(world, client):
        for _ in range(RESETS):
            before = sum(each.connections for each in world.all_of(kind))
            for each in world.all_of(kind):
                each.reset_all()
            await noticed(world.all_of(kind), before, 1, asking(kind, client))


@pytest.mark.parametrize("toxic", ["black_hole", "half_open", "down"])
@pytest.mark.parametrize("kind", ["redis", "postgres", "chain"])
async def test_silence_is_noticed_and_survived(world: World, client: FaultyClient, kind: str, toxic: str) -> None:
    async with ordering(world, client):
        before = sum(each.connections for each in world.all_of(kind))
        for each in world.all_of(kind):
            setattr(each.toxics, toxic, True)
        await noticed(world.all_of(kind), before, 3, asking(kind, client))


@pytest.mark.parametrize(("kind", "name"), [("redis", "projector"), ("redis", "notifier"), ("postgres", "projector")])
async def test_one_service_cut_off_keeps_no_order_waiting(
    world: World, client: FaultyClient, kind: str, name: str
) -> None:
    cut = world.proxies[kind][name]
    async with ordering(world, client):
        cut.toxics.black_hole = True
        await ended(world, client)


async def test_a_gateway_cut_off_from_redis_says_so_and_the_others_go_on(world: World, client: FaultyClient) -> None:
    placed = [await client.accepted() for _ in range(ORDERS)]
    async with ordering(world, client):
        world.proxies["redis"]["gateway"].toxics.down = True

        async def refused() -> bool:
            status, answer = await client._ask(
                "place", "cut off", "POST", "/api/orders", {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1"}, {}
            )
            return status == 503 and answer["code"] in {"log_unavailable", "outcome_unknown"}

        await eventually(refused, what="orders are refused in words")
        await all_terminal(world.stack, placed)


@pytest.mark.parametrize("kind", list(LOST))
async def test_a_reply_lost_after_its_command_ran_makes_nothing_twice(
    world: World, client: FaultyClient, kind: str
) -> None:
    command, services = LOST[kind]
    losing = [world.proxies[kind][name].toxics for name in services]
    async with ordering(world, client):
        already = [toxics.lost for toxics in losing]
        for toxics in losing:
            toxics.lose_reply_to, toxics.lose_replies = command, 2

        async def lost() -> bool:
            await client.accepted()
            return all(now.lost >= before + 2 for now, before in zip(losing, already, strict=True))

        await eventually(lost, what="lost replies everywhere", within_s=240)


@pytest.mark.parametrize("toxic", ["latency_s", "slice_bytes", "resets", "half_open"])
async def test_a_socket_shows_what_the_log_holds(world: World, client: FaultyClient, toxic: str) -> None:
    async with proxy(lambda: world.stack.base_url) as bad:
        watcher = Watcher(client.session, f"http://127.0.0.1:{bad.port}")
        if toxic in {"latency_s", "slice_bytes"}:
            setattr(bad.toxics, toxic, {"latency_s": 0.05, "slice_bytes": 1}[toxic])
        watching = asyncio.create_task(watcher.run())
        await eventually(watcher.seen, what="a snapshot")
        placing = asyncio.create_task(until_cancelled(client.accepted))
        if toxic == "half_open":
            before = len(world.history.promised)
            bad.toxics.half_open = True
            await eventually(lambda: len(world.history.promised) > before + 2, what="orders nobody was told of")
            bad.toxics.heal()
        for _ in range(SOCKET_RESETS if toxic == "resets" else 0):
            before = len(watcher.transcripts)
            bad.reset_all()
            await eventually(partial(seen_again, watcher, before), what="it is back")
        await ended(world, client)
        placing.cancel()
        await asyncio.gather(placing, return_exceptions=True)
        await all_terminal(world.stack, world.history.promised.values())
        await shows_everything(world, watcher)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def seen_again(watcher: Watcher, connections: int) -> bool:
    return len(watcher.transcripts) > connections and bool(watcher.seen())


async def shows_everything(world: World, watcher: Watcher) -> None:
    found: dict[str, list[Envelope]] = {}

    async def up_to_date() -> bool:
        nonlocal found
        # Read anew: an order whose answer nobody waited for is not among those waited for, and goes on.
        found, seen = histories(await whole_log(world.stack)), watcher.seen()
        assert statuses(found).keys() <= {status.value for status in TERMINAL}
        late = {order: (version, len(found[order])) for order, version in seen.items() if version != len(found[order])}
        assert not late, late
        return bool(seen)

    await eventually(up_to_date, what="the socket shows the log")
    assert [wrong for transcript in watcher.transcripts for wrong in judge_socket(transcript, found)] == []


async def test_after_all_that_every_promise_was_kept(world: World, client: FaultyClient) -> None:
    await world.stack.until_ready()
    found = await check_everything(world.stack, world.history.promised.values())
    assert statuses(found) == {"CONFIRMED": len(found)}
    keys = [history[0].data.idempotency_key for history in found.values()]  # type: ignore[attr-defined]
    assert len(keys) == len(set(keys)), "two orders under one key"
    assert set(world.history.promised) <= set(keys) <= {operation.key for operation in world.history.operations}


def asking(kind: str, client: FaultyClient) -> Callable[[], Awaitable[object]]:
    """What makes a service use the connection: some only look every few seconds by themselves."""
    match kind:
        case "notifier":
            return lambda: subscribed(client)
        case "chain":
            return client.accepted
        case _:
            return client.list


async def subscribed(client: FaultyClient) -> None:
    with suppress(aiohttp.ClientError, OSError):
        async with client.session.ws_connect("/api/ws/orders") as socket:
            await socket.receive()


async def noticed(proxies: Sequence[Proxy], before: int, count: int, ask: Callable[[], Awaitable[object]]) -> None:
    """Wait until services gave up their connections and made so many new ones."""
    asked = asyncio.create_task(until_cancelled(ask))
    try:
        await eventually(lambda: sum(each.connections for each in proxies) >= before + count, what="new connections")
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
