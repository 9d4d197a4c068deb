"""Times as people type them."""

import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"(\d{1,9})\s*(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def to_ms(text: str, now: datetime) -> int:
    """`10m` (that long before `now`) or RFC 3339 (`2026-01-02T03:04Z`, without a zone: UTC) in ms since 1970.

    Raises:
        ValueError: neither; the text is one sentence.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        at = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is neither a duration such as 10m or 2h nor a time such as 2026-01-02T03:04Z"
        ) from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0, int(at.timestamp() * 1000))
