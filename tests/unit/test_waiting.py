"""A wait that fails must say what it waited for and what it saw last."""

import pytest

from tests.waiting import eventually


async def test_gives_the_first_true_value() -> None:
    values = iter([0, None, 7])
    assert await eventually(lambda: next(values), what="a number") == 7


async def test_waits_on_asserts_and_on_coroutines() -> None:
    seen: list[int] = []

    async def grown() -> bool:
        seen.append(1)
        assert len(seen) > 2
        return True

    assert await eventually(grown)


async def test_failure_names_what_and_the_last_value() -> None:
    with pytest.raises(AssertionError, match=r"not within 0 s: three orders; last seen: \[\]"):
        await eventually(list, what="three orders", within_s=0)
