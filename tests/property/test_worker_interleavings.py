"""Any interleaving of two workers, with claims, crashes and lost replies, leaves one result per step."""

import asyncio
import random
from collections.abc import Sequence

from hypothesis import given, settings, strategies as st

from libs.events.envelope import Envelope
from libs.events.errors import OutcomeUnknown
from libs.events.log import Committed, Outcome, Step
from libs.events.memory_log import MemoryLog
from libs.events.model import Event, OrderRequested, RouteSelected, RoutingStarted, TxSubmitted
from libs.events.order import Order, evolve
from libs.events.work import Item
from libs.events.worker import Worker
from libs.events.worker_limits import WorkerLimits
from libs.service.health import Health
from tests.builders import a_request, route_selected, routing_started, tx_confirmed, tx_submitted
from tests.waiting import eventually

ORDERS = 6
LIMITS = WorkerLimits(
    block_ms=1,
    claim_idle_ms=0,  # everything may be stolen at any time
    claim_every_s=0.001,
    renew_every_s=0.001,
    retry_base_s=0.0005,
    retry_cap_s=0.001,
    deliveries_max=10**6,
)


class TroubledLog(MemoryLog):
    """Loses replies after applying, at random, and lets others run in between."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(2)
        self.chance = chance

    async def commit(self, step: Step) -> Outcome:
        for _ in range(self.chance.randrange(3)):
            await asyncio.sleep(0)
        outcome = await super().commit(step)
        if step.item and self.chance.random() < 0.3:
            raise OutcomeUnknown("the reply was lost")
        return outcome

    async def claim(self, service: str, consumer: str, idle_ms: int) -> list[Item]:
        return await super().claim(service, consumer, idle_ms) if self.chance.random() < 0.5 else []


async def anything(chance: random.Random, order: Order, event: Envelope) -> Sequence[Event]:
    """A router and an executor in one, whose every try would write something else."""
    for _ in range(chance.randrange(4)):
        await asyncio.sleep(0)
    match event.data:
        case OrderRequested():
            return [routing_started()]
        case RoutingStarted():
            return [route_selected(out=chance.randrange(1, 10**6))]
        case RouteSelected():
            return [tx_submitted(signature=f"sig-{chance.random()}")]
        case _:
            return [tx_confirmed(signature=order.signature or "")]


async def run(seed: int) -> None:
    chance = random.Random(seed)
    log = TroubledLog(chance)
    ids = []
    for number in range(ORDERS):
        step, made = a_request(2, f"user-{number}")
        assert isinstance(await log.commit(step), Committed)
        ids.append(made.order.id)

    async def crashing(service: str, consumer: str) -> None:
        """Starts again and again; each life ends in the middle of whatever it does."""
        while True:
            worker = Worker(
                log,
                service,
                lambda order, event: anything(chance, order, event),
                consumer=consumer,
                health=Health(),
                limits=LIMITS,
            )
            life = asyncio.create_task(worker.run(asyncio.Event()))
            await asyncio.sleep(chance.random() * 0.01)
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
            await worker._in_hand.drop()

    lives = [asyncio.create_task(crashing(service, name)) for service in ("router", "executor") for name in "ab"]

    async def all_ended() -> bool:
        held = await log.find_many(ids)
        return all(order.order.status == "CONFIRMED" for order in held.values())

    try:
        await eventually(all_ended, what=f"every order confirmed (seed {seed})", poll_s=0.005)
    finally:
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
    for order_id in ids:
        history = [entry.decode() for entry in await log.history(order_id)]
        order = None
        for event in history:
            order = evolve(order, event)
        assert [event.type for event in history] == [
            "OrderRequested",
            "RoutingStarted",
            "RouteSelected",
            "TxSubmitted",
            "TxConfirmed",
        ], f"seed {seed}"
        assert order is not None
        submitted = history[3].data
        assert isinstance(submitted, TxSubmitted)
        assert order.signature == submitted.signature, f"seed {seed}"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_any_interleaving_leaves_one_result_per_step(seed: int) -> None:
    asyncio.run(run(seed))
