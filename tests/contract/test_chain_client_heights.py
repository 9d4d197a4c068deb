"""For how long a venue may say that its transaction is valid: over real sockets."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from libs.events.model import AttemptFailed, Reason, TxConfirmed, TxSubmitted
from services.executor.domain import BLOCKHASH_HEIGHTS
from tests.contract.executor_rig import Rig, intent, running_rig, selected, submitted


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    async with running_rig(monkeypatch) as rig:
        yield rig


def telling(rig: Rig, ahead: int, liar: str | None = None) -> None:
    """The venue tells a height so far from the chain's; `liar`: for this order only."""

    def reply(body: dict[str, Any]) -> web.Response:
        built = rig.fake._build(body)
        if liar in {None, body["reference"]}:
            built["lastValidBlockHeight"] = max(0, rig.fake.height + ahead)
        return web.json_response(built)

    rig.fake.build_reply = reply


@pytest.mark.parametrize("ahead", [2 * BLOCKHASH_HEIGHTS + 1, 20_000_000, -1, -10_000])
async def test_what_would_be_valid_for_ever_or_is_not_any_more_is_not_signed(rig: Rig, ahead: int) -> None:
    telling(rig, ahead)
    (event,) = await rig.handle(selected())
    assert isinstance(event, AttemptFailed)
    assert event.reason is Reason.VENUE_REFUSED
    told = max(0, rig.fake.height + ahead)
    assert event.detail == f"raydium: not signed: it is said to be valid until height {told}, and the chain is at 900"


@pytest.mark.parametrize("ahead", [0, 1, BLOCKHASH_HEIGHTS, 2 * BLOCKHASH_HEIGHTS])
async def test_a_node_may_be_behind_the_venues(rig: Rig, ahead: int) -> None:
    telling(rig, ahead)
    assert isinstance(await rig.settled(await submitted(rig)), TxConfirmed)


async def test_one_that_is_not_signed_does_not_keep_back_those_built_with_it(rig: Rig) -> None:
    orders = [selected() for _ in range(8)]
    rig.fake.has_lists = False
    telling(rig, 20_000_000, liar=orders[3].order.id)
    outcomes = await rig.executor.handle_many([(now.order, now.event) for now in orders])
    kinds = [type(event) for (event,) in outcomes]
    assert kinds == [TxSubmitted] * 3 + [AttemptFailed] + [TxSubmitted] * 4


async def test_the_chain_is_asked_when_what_it_said_last_explains_a_height_no_more(rig: Rig) -> None:
    for height, asked in (
        (900, 1),
        (901, 1),
        (900 + BLOCKHASH_HEIGHTS, 1),
        (901 + BLOCKHASH_HEIGHTS, 2),
        (10**6, 3),
        (5, 4),
    ):
        rig.fake.height = height
        assert intent(await submitted(rig)).last_valid_block_height == height + BLOCKHASH_HEIGHTS
        assert rig.fake.calls.count("getBlockHeight") == asked


async def test_while_the_chain_says_nothing_a_venue_is_believed(rig: Rig) -> None:
    await submitted(rig)
    rig.fake.height, rig.fake.away = 10**6, 1_000
    await submitted(rig)
