"""Orders over a node and aggregators that know nothing of us: a matter of configuration."""

import asyncio
from pathlib import Path

from deploy.local.ports import Claims
from deploy.local.stack import Stack
from tests.checker import all_terminal, check_everything, statuses
from tests.clients import signed_up
from tests.e2e.public_world import public_world

ORDERS = 40


async def test_orders_settle_over_nodes_and_aggregators_as_the_public_ones_are(tmp_path: Path, claimed: Claims) -> None:
    localnet = claimed.free("127.0.0.1")
    async with public_world(f"http://127.0.0.1:{localnet}") as (world, url):
        env = {
            "PORT": "0",
            "NOTIFIER_PORT": "0",
            "LOCALNET_PORT": str(localnet),
            "LOCALNET_SLOT_MS": "100",
            "LOCALNET_DROP_RATE": "0.1",
            "EXECUTORS": "2",
            "RETRY_BASE_MS": "50",
            "RETRY_CAP_MS": "500",
            "ATTEMPTS_MAX": "20",
            "CHAIN_RPC_URL": url,
            "VENUES": f"raydium={url}/raydium,meteora={url}/meteora",
        }
        async with Stack(tmp_path / "data", env=env, durable=False) as stack, signed_up(stack.base_url) as client:
            placed = await asyncio.gather(*(client.order(amount=1) for _ in range(ORDERS)))
            ids = [order["orderId"] for order in placed]
            await all_terminal(stack, ids)
            found = await check_everything(stack, ids)
            assert statuses(found) == {"CONFIRMED": ORDERS}
    assert 413 in world.refused
