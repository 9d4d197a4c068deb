"""Injected trouble repeats with its seed and is refused where it is not known."""

from typing import Any

import pytest

from services.localnet.trouble import Trouble, TroubleError


@pytest.fixture
def trouble() -> Trouble:
    return Trouble(seed=1)


def test_injected_chance_repeats_with_its_seed() -> None:
    def drawn(seed: int) -> list[bool]:
        trouble = Trouble(seed)
        trouble.update({"drop_rate": 0.3})
        return [trouble.drops() for _ in range(200)]

    assert drawn(7) == drawn(7) != drawn(8)
    assert 30 < sum(drawn(7)) < 90


@pytest.mark.parametrize(
    "fields",
    [{"drop_rat": 1}, {"drop_rate": 1.5}, {"drop_rate": True}, {"drop_next": -1}, {"latency_ms": "5"},
     {"outages": "rpc"}, {"outages": ["lifinity"]}, {"venue_latency_ms": {"lifinity": 1}}, {"venue_latency_ms": []}],
)  # fmt: skip
def test_unknown_trouble_is_refused_and_changes_nothing(trouble: Trouble, fields: dict[str, Any]) -> None:
    before = trouble.as_dict()
    with pytest.raises(TroubleError):
        trouble.update({"revert_next": 3, **fields})
    assert trouble.as_dict() == before
