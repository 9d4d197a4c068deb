"""Thousands of worlds in which everything fails at some time: all of them keep every promise."""

from collections.abc import Iterator

import pytest
import structlog

from libs.events.model import AttemptFailed
from tests.simulation.runs import run_seed, run_seeds, silence

SEEDS = 2_000


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    before = structlog.get_config()
    silence()
    yield
    structlog.configure(**before)


def test_every_promise_is_kept_under_every_schedule() -> None:
    for broken in run_seeds(0, SEEDS):
        assert not broken, f"{len(broken)} seeds broke a promise: {broken}"


def test_a_seed_is_one_schedule() -> None:
    def told(seed: int) -> list[tuple[str, ...]]:
        world, _ = run_seed(seed)
        first = [entry.fields["type"] for part in world.log._parts for entry in part.entries]
        return [tuple(first), *(tuple(said["type"] for said in each) for each in world.transcripts)]

    assert [told(seed) for seed in range(5)] == [told(seed) for seed in range(5)]


def test_worlds_are_rough() -> None:
    """What the simulation is for does happen in it: retries, take-overs, expired and reverted transactions, resets."""
    types: set[str] = set()
    reasons: set[str] = set()
    takeovers = 0
    for seed in range(60):
        world, _ = run_seed(seed)
        for part in world.log._parts:
            types |= {entry.fields["type"] for entry in part.entries}
            bodies = [entry.decode().data for entry in part.entries]
            reasons |= {body.reason for body in bodies if isinstance(body, AttemptFailed)}
        takeovers += len(world.transcripts) > len(world.live)
    assert {"AttemptFailed", "TxConfirmed"} <= types
    assert {"transaction_expired", "slippage_exceeded", "venues_unavailable"} <= reasons, reasons
    assert takeovers > 30
