"""Times as an operator may say them."""

from datetime import UTC, datetime

import pytest

from services.ops.times import to_ms

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0s", 1767323045000),
        ("10m", 1767322445000),
        ("2h", 1767315845000),
        ("1 d", 1767236645000),
        ("2026-01-02T03:04:05Z", 1767323045000),
        ("2026-01-02T03:04:05", 1767323045000),
        ("2026-01-02T04:04:05.250+01:00", 1767323045250),
        ("2026-01-02", 1767312000000),
    ],
)
def test_times_are_durations_or_moments(text: str, ms: int) -> None:
    assert to_ms(text, NOW) == ms


@pytest.mark.parametrize("text", ["", "yesterday", "10", "m", "-5m", "10 weeks", "2026-13-01", "999999999d"])
def test_other_times_are_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="neither a duration"):
        to_ms(text, NOW)
