"""When a signature that is not found never landed: not by a node that began later, nor by one that may be on a fork."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.events.model import AttemptFailed, Reason, TxConfirmed
from services.executor import settling
from services.executor.rpc import ChainUnavailable
from tests.contract.executor_rig import Rig, intent, running_rig, submitted

SIGNED_AT, LONG_AGO = 900, 10_000


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    async with running_rig(monkeypatch) as running:
        yield running


def long_after(rig: Rig) -> None:
    rig.fake.height += LONG_AGO
    rig.fake.slot += LONG_AGO


async def test_what_landed_before_a_nodes_first_block_is_not_signed_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = await submitted(rig)
    await rig.chain.send(intent(now).transaction)
    long_after(rig)
    rig.fake.first_height, rig.fake.nulls = SIGNED_AT + 200, 1_000_000  # set up from a snapshot since
    monkeypatch.setattr(settling, "SETTLE_SECONDS_MAX", 0.3)
    assert await rig.handle(now) == []

    rig.fake.first_height, rig.fake.nulls = 0, 0  # another node, which has it all
    assert isinstance(await rig.settled(now), TxConfirmed)


@pytest.mark.parametrize(("first_height", "tells"), [(0, True), (SIGNED_AT - 150, True), (LONG_AGO, False)])
async def test_a_node_with_every_block_since_proves_that_it_never_landed(
    rig: Rig, first_height: int, tells: bool
) -> None:
    rig.fake.drop = 1
    now = await submitted(rig)
    rig.fake.drop = 1_000_000
    long_after(rig)
    rig.fake.first_height, rig.fake.tells_first_block = first_height, tells
    event = await rig.settled(now)
    assert isinstance(event, AttemptFailed)
    assert event.reason is Reason.TRANSACTION_EXPIRED


async def test_soon_after_its_time_every_node_remembers_and_is_asked_nothing_more(rig: Rig) -> None:
    rig.fake.drop, rig.fake.on_drop = 1, rig.fake.expire
    rig.fake.first_height = SIGNED_AT + 100
    assert isinstance(await rig.settled(await submitted(rig)), AttemptFailed)
    assert "getFirstAvailableBlock" not in rig.fake.calls


async def test_what_a_fork_may_hide_is_not_signed_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    now = await submitted(rig)
    await rig.chain.send(intent(now).transaction)  # into the last block that takes it
    rig.fake.expire()
    rig.fake.finalized_lag, rig.fake.nulls = 32, 1_000_000  # who is asked is on a fork without that block
    monkeypatch.setattr(settling, "SETTLE_SECONDS_MAX", 0.3)
    assert await rig.handle(now) == []

    rig.fake.nulls = 0
    assert isinstance(await rig.settled(now), TxConfirmed)


async def test_what_no_fork_can_take_back_is_proof(rig: Rig) -> None:
    rig.fake.drop, rig.fake.on_drop, rig.fake.finalized_lag = 1, rig.fake.expire, 32
    now = await submitted(rig)
    rig.fake.height += 32
    rig.fake.slot += 32
    assert isinstance(await rig.settled(now), AttemptFailed)


async def test_a_node_that_refuses_to_say_where_its_blocks_begin_proves_nothing_and_disturbs_no_other_call(
    rig: Rig,
) -> None:
    rig.fake.refuses = "getFirstAvailableBlock"

    async def heights() -> None:
        for _ in range(10):
            assert await rig.chain.height() == rig.fake.height

    looks = [rig.chain.look_back(f"signature{number}", 0) for number in range(50)]
    found, _ = await asyncio.gather(
        asyncio.gather(*looks, return_exceptions=True), asyncio.gather(*(heights() for _ in range(20)))
    )
    assert {type(one) for one in found} == {ChainUnavailable}
    assert all("getFirstAvailableBlock" in str(one) for one in found), "it is told what was refused"
