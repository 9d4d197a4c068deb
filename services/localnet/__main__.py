"""A chain and its venues on this machine. `python -m services.localnet`; settings LOCALNET_*, DATA_DIR, HOST."""

import asyncio

import structlog

from libs.service.health import Health, admin_server, serve
from libs.service.lifecycle import run
from libs.service.settings import ConfigurationError, Settings
from services.localnet.app import create_app
from services.localnet.node import Node
from services.localnet.storage import StorageUnusable, open_storage
from services.localnet.trouble import Trouble, TroubleError


async def main(settings: Settings, stop: asyncio.Event) -> None:
    try:
        await _main(settings, stop)
    except StorageUnusable as error:
        raise ConfigurationError(f"DATA_DIR is not usable: {error}") from None


async def _main(settings: Settings, stop: asyncio.Event) -> None:
    health = Health("chain")
    with open_storage(settings.data_dir) as storage:
        node = Node(storage, _trouble(settings), seed=settings.localnet_seed, slot_ms=settings.localnet_slot_ms)
        async with (
            admin_server(health, settings.admin_host, settings.admin_port) as admin_port,
            serve(create_app(node, health), settings.host, settings.localnet_port) as port,
        ):
            structlog.get_logger().info("listening", port=port, admin_port=admin_port)
            health.ok("chain")
            await node.run(stop)


def _trouble(settings: Settings) -> Trouble:
    trouble = Trouble(settings.localnet_seed)
    try:
        trouble.update(
            {
                "latency_ms": settings.localnet_latency_ms,
                "drop_rate": settings.localnet_drop_rate,
                "revert_rate": settings.localnet_revert_rate,
                "outages": [name.strip() for name in settings.localnet_outages.split(",") if name.strip()],
            }
        )
    except TroubleError as error:
        field, _, rest = str(error).partition(" ")
        raise ConfigurationError(f"LOCALNET_{field.upper()} {rest}") from None
    return trouble


if __name__ == "__main__":
    run("localnet", main)
