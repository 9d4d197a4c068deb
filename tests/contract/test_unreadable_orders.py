"""An order in the log that this release cannot read: what its owner sees of it, and of all the others."""

from libs.events.ids import partition_of
from libs.events.redis_keys import Keys
from libs.events.redis_log import RedisLog
from libs.orders.batch import Batch
from libs.orders.store import OrderStore
from tests.contract.http_gateway import Client, gateway
from tests.contract.notifier_rig import running


async def placed(client: Client) -> str:
    return str((await client.post()).body["orderId"])


async def spoil(log: RedisLog, order_id: str) -> None:
    """As a release could leave it that is newer than this one."""
    key = Keys(partition_of(order_id)).order(order_id)
    await log._redis.send([["HSET", key, "OrderRequested", "9 1 x"]])


async def project(log: RedisLog, store: OrderStore) -> None:
    projection = store.projection()
    at = await projection.resume(log.epoch, log.partitions)
    await projection.apply(log.epoch, Batch(at, await log.read(at, 100, 0)))


async def test_its_owner_sees_it_as_it_is_archived(redis_log: RedisLog, store: OrderStore) -> None:
    async with gateway(log=redis_log, store=store) as client:
        cursor = (await client.get("/api/events")).body["cursor"]
        odd, well = await placed(client), await placed(client)
        await project(redis_log, store)
        await spoil(redis_log, odd)

        assert [one["orderId"] for one in (await client.get("/api/orders")).body["orders"]] == [well, odd]
        assert (await client.get(f"/api/orders/{odd}")).body["status"] == "PENDING"
        missed = (await client.get(f"/api/events?cursor={cursor}")).body["events"]
        assert [event["orderId"] for event in missed] == [odd, well]


async def test_where_no_store_can_tell_it_the_others_are_told_all_the_same(redis_log: RedisLog) -> None:
    async with gateway(log=redis_log) as client:
        odd, well = await placed(client), await placed(client)
        await spoil(redis_log, odd)

        assert [one["orderId"] for one in (await client.get("/api/orders")).body["orders"]] == [well]
        assert (await client.get(f"/api/orders/{odd}")).code == "internal_error", "it is there: no 404"
    async with running(redis_log) as notifier, notifier.connect(client.user) as ws:
        assert [one["orderId"] for one in (await ws.receive_json())["orders"]] == [well]
