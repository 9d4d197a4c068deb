"""The gateway as a process: stores that come late, requests in hand at the end, and settings that cannot be right."""

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]  # it brings no types
import pytest
from aiohttp import ClientConnectionError, ClientSession, TCPConnector
from redis.asyncio import Redis

from deploy.local.ports import Claims
from libs.events.redis_log import open_redis_log
from libs.service.settings import load_settings
from tests.contract.http_gateway import ORDER, SECRET, Client
from tests.servers import flush_redis
from tests.waiting import eventually


class Process:
    """A running gateway and what it logs."""

    def __init__(self, process: asyncio.subprocess.Process, client: Client) -> None:
        self.process, self.client = process, client
        self.logged: list[dict[str, Any]] = []
        self.stderr = ""

    async def read(self) -> None:
        assert self.process.stderr
        async for line in self.process.stderr:
            self.stderr += line.decode()
            with suppress(ValueError):
                self.logged.append(json.loads(line))

    async def status(self, path: str) -> int:
        try:
            async with self.client.session.get(self.client.url + path) as response:
                return response.status
        except ClientConnectionError:
            return 0


@asynccontextmanager
async def process(**environment: str) -> AsyncIterator[Process]:
    with Claims() as claimed:
        async with process_at(claimed.free("127.0.0.1"), **environment) as running:
            yield running


@asynccontextmanager
async def process_at(port: int, **environment: str) -> AsyncIterator[Process]:
    given = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "JWT_SECRET": SECRET,
        "PORT": str(port),
        "LOG_FORMAT": "json",
        **environment,
    }
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway", env=given, stderr=asyncio.subprocess.PIPE
    )
    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        running = Process(started, Client(session, f"http://127.0.0.1:{port}", "user-1"))
        reading = asyncio.create_task(running.read())
        try:
            yield running
        finally:
            with suppress(ProcessLookupError):
                started.kill()
            await started.wait()
            await reading


@asynccontextmanager
async def relay(port: int, url: str) -> AsyncIterator[None]:
    """Let a server that is somewhere else be reached at `port`."""
    target = urlsplit(url)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = (
            asyncio.open_unix_connection(target.path)
            if target.scheme == "unix"
            else asyncio.open_connection(target.hostname, target.port)
        )
        to_reader, to_writer = await there
        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))

    async with await asyncio.start_server(accept, "127.0.0.1", port):
        yield


@pytest.fixture
async def log_url(redis_url: str) -> str:
    """Where a log is, made and checked as the projector does it."""
    await asyncio.to_thread(flush_redis, redis_url)
    async with open_redis_log(redis_url, load_settings().partitions) as log:
        await log.start(create=True)
    return redis_url


async def test_stores_may_come_late(log_url: str, database_url: str, claimed: Claims) -> None:
    port = claimed.free("127.0.0.1")
    login, at, _ = urlsplit(log_url).netloc.rpartition("@")
    async with process(REDIS_URL=f"redis://{login}{at}127.0.0.1:{port}/0", DATABASE_URL=database_url) as gateway:
        client = gateway.client
        await eventually(lambda: gateway.status("/livez"), what="the process serves")
        assert await gateway.status("/readyz") == 503
        assert (await client.post()).code == "log_unavailable"
        async with relay(port, log_url):

            async def ready() -> bool:
                return await gateway.status("/readyz") == 200

            await eventually(ready, what="ready once Redis is there")
            assert (await client.post()).status == 202
        assert gateway.process.returncode is None


async def test_more_connections_than_a_shell_permits_files_are_answered() -> None:
    stores = {"REDIS_URL": "redis://127.0.0.1:1/0", "DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    async with AsyncExitStack() as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))  # as a process of its own begins
        try:
            gateway = await stack.enter_async_context(process(**stores))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await eventually(lambda: gateway.status("/livez"), what="the process serves")
        url = urlsplit(gateway.client.url)
        for number in range(200):
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
            stack.callback(writer.close)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n", number


async def test_what_is_in_hand_is_finished_before_the_end(log_url: str, database_url: str) -> None:
    stores = {"REDIS_URL": log_url, "DATABASE_URL": database_url}
    async with process(**stores, LOG_LEVEL="debug") as gateway, Redis.from_url(log_url) as redis:
        client = gateway.client

        async def ready() -> bool:
            return await gateway.status("/readyz") == 200

        await eventually(ready)
        assert (await client.post()).status == 202
        await redis.client_pause(60_000, all=False)
        posting = asyncio.create_task(client.post(X_Request_Id="in-hand", Idempotency_Key="k"))

        async def in_hand() -> bool:
            return int((await redis.info("clients"))["blocked_clients"]) > 0

        await eventually(in_hand, what="the commit waits in Redis")
        gateway.process.send_signal(signal.SIGTERM)

        async def deaf() -> bool:
            return await gateway.status("/livez") == 0

        await eventually(deaf, what="no new connection is accepted")
        assert not posting.done()
        await redis.client_unpause()
        answer = await posting
        assert answer.status == 202
        assert await gateway.process.wait() == 0
        await eventually(lambda: any(line["event"] == "stopped" for line in gateway.logged))
        (line,) = (line for line in gateway.logged if line.get("request_id") == "in-hand")
        order_id = answer.body["orderId"]
        assert line["event"] == "order_accepted"
        assert (line["level"], line["order_id"]) == ("debug", order_id)
        assert len(line["traceparent"]) == 55
        assert SECRET not in gateway.stderr
        assert client.token not in gateway.stderr


async def test_an_account_an_order_and_its_story(log_url: str, database_url: str) -> None:
    async with process(REDIS_URL=log_url, DATABASE_URL=database_url) as gateway:

        async def ready() -> bool:
            return await gateway.status("/readyz") == 200

        await eventually(ready)
        account = {"email": "ann@example.com", "password": "correct horse"}
        made = await gateway.client.post(account, "/api/auth/signup")
        assert made.status == 201
        bearer = f"Bearer {made.body['token']}"
        order = await gateway.client.post(ORDER, Authorization=bearer, Idempotency_Key="k1")
        again = await gateway.client.post(ORDER, Authorization=bearer, Idempotency_Key="k1")
        assert (again.status, again.body) == (202, order.body)
        path = order.headers["Location"]
        cancelled = await gateway.client.ask("DELETE", path, Authorization=bearer)
        assert cancelled.body["status"] == "CANCELLED"
        assert (await gateway.client.get(path, Authorization=bearer)).body == cancelled.body
        story = await gateway.client.get(f"{path}/events", Authorization=bearer)
        assert [event["type"] for event in story.body["events"]] == ["OrderRequested", "OrderCancelled"]
        listed = await gateway.client.get("/api/orders", Authorization=bearer)
        assert listed.body["orders"] == [cancelled.body]
        assert account["password"] not in gateway.stderr


async def test_gateways_that_are_told_of_each_other_share_a_port_and_others_do_not(claimed: Claims) -> None:
    port, *admins = (str(claimed.free("127.0.0.1")) for _ in range(3))
    given = {"DATABASE_URL": "postgresql://127.0.0.1:9/x", "REDIS_URL": "redis://127.0.0.1:9", "PORT": port}
    many = {**given, "GATEWAYS": "2"}
    async with (
        process(**many, ADMIN_PORT=admins[0]) as one,
        process(**many, ADMIN_PORT=admins[1]) as other,
        ClientSession(connector=TCPConnector(force_close=True)) as session,
    ):

        async def answered(admin: str) -> bool:
            try:
                async with session.get(f"http://127.0.0.1:{admin}/metrics") as response:
                    return 'route="/livez"' in await response.text()
            except ClientConnectionError:
                return False

        async def both_have_answered() -> bool:
            with suppress(ClientConnectionError):
                async with session.get(f"http://127.0.0.1:{port}/livez") as response:
                    assert response.status == 200
            return all([await answered(admin) for admin in admins])

        await eventually(both_have_answered, what="connections reach both")
        async with process(**given) as alone:
            assert await alone.process.wait() == 2
            await eventually(lambda: "cannot listen" in alone.stderr)
        one.process.terminate()
        assert await one.process.wait() == 0
        for _ in range(20):
            async with session.get(f"http://127.0.0.1:{port}/livez") as response:
                assert response.status == 200
        assert other.process.returncode is None


@pytest.mark.parametrize("given", [{}, {"ADMIN_HOST": "0.0.0.0"}])
async def test_what_operators_ask_is_open_to_other_machines_only_where_that_is_wanted(
    claimed: Claims, given: dict[str, str]
) -> None:
    stores = {"DATABASE_URL": "postgresql://127.0.0.1:9/x", "REDIS_URL": "redis://127.0.0.1:9"}
    port, admin = claimed.free("127.0.0.1"), claimed.free("127.0.0.1")
    async with process_at(port, HOST="0.0.0.0", ADMIN_PORT=str(admin), **stores, **given) as gateway:

        def listening() -> dict[int, str]:
            found = psutil.Process(gateway.process.pid).net_connections("tcp")
            return {one.laddr.port: one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}

        await eventually(lambda: len(listening()) == 2, what="it listens")
        assert listening() == {port: "0.0.0.0", admin: given.get("ADMIN_HOST", "127.0.0.1")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"JWT_SECRET": ""}, "JWT_SECRET is not set"),
        ({"JWT_SECRET": "short"}, "JWT_SECRET is too short"),
        ({"DATABASE_URL": ""}, "DATABASE_URL is not set"),
        ({"JWT_SECRETS_OLD": f"{'x' * 32},short"}, "JWT_SECRETS_OLD is too short: 5 bytes"),
        ({"NOTIFIER_URL": "https://x"}, "NOTIFIER_URL must be"),
    ],
)
async def test_settings_that_cannot_be_right_are_one_line_and_exit_code_2(change: dict[str, str], said: str) -> None:
    given = {"DATABASE_URL": "postgresql://127.0.0.1:9/x", "REDIS_URL": "redis://127.0.0.1:9", **change}
    async with process(**given) as gateway:
        assert await gateway.process.wait() == 2
        await eventually(lambda: said in gateway.stderr)
        assert "Traceback" not in gateway.stderr
