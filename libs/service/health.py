"""`/livez`, `/readyz` and `/metrics`: the same three for every service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from libs.service.door import Door, connections_max
from libs.service.settings import ConfigurationError

BACKLOG = 128
DRAIN_S_MIN = 0.01


class Health:
    """What this process needs, and whether it has it. Anything not yet reported is not ready."""

    def __init__(self, *needs: str) -> None:
        self._trouble: dict[str, str] = dict.fromkeys(needs, "not started")

    def ok(self, need: str) -> None:
        """`need` is there (again)."""
        self._trouble.pop(need, None)

    def trouble(self, need: str, reason: str) -> None:
        """`need` is away, with the reason in one line."""
        self._trouble[need] = reason

    @property
    def ready(self) -> bool:
        return not self._trouble

    @property
    def reasons(self) -> dict[str, str]:
        return dict(self._trouble)


def health_routes(health: Health, *, tell_why: bool = False) -> list[web.RouteDef]:
    """Routes for a service's own application, without metrics: those stay on the admin port.

    `tell_why`: for operators only. Reasons name addresses and users of stores, and anybody may ask a public port.
    """

    async def live(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def ready(_request: web.Request) -> web.Response:
        if health.ready:
            return web.json_response({"status": "ok"})
        reasons = health.reasons if tell_why else dict.fromkeys(health.reasons, "unavailable")
        return web.json_response({"status": "unavailable", "reasons": reasons}, status=503)

    return [web.get("/livez", live), web.get("/readyz", ready)]


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@asynccontextmanager
async def admin_server(health: Health, host: str, port: int) -> AsyncIterator[int]:
    """Serve health and metrics while the block runs; gives the port that was bound."""
    app = web.Application()
    app.add_routes([*health_routes(health, tell_why=True), web.get("/metrics", _metrics)])
    async with serve(app, host, port) as bound:
        yield bound


@asynccontextmanager
async def serve(
    app: web.Application, host: str, port: int, *, drain_s: float = 1, shared: bool = False
) -> AsyncIterator[int]:
    """Serve `app` while the block runs; gives the port that was bound (port 0: any free one).

    `shared`: other processes of ours may listen on the same port; each connection goes to one of them.

    Raises:
        ConfigurationError: the port is taken.
    """
    # aiohttp takes no time at all for all the time there is.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=max(drain_s, DRAIN_S_MIN))
    await runner.setup()
    assert runner.server
    door, loop = Door(runner.server, connections_max()), asyncio.get_running_loop()
    try:
        try:
            listening = await loop.create_server(door, host, port, backlog=BACKLOG, reuse_port=shared or None)
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            listening.close()
    finally:
        await runner.cleanup()
