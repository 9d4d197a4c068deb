"""Times as clients send them."""

import re
from datetime import UTC, datetime, timedelta

from services.gateway.bodies import FieldError

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def parse_time(text: str) -> datetime:
    """An RFC 3339 time, in UTC.

    Raises:
        ValueError
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError(text)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(text) from error


def read_time(text: str | None, now: datetime, within: timedelta | None, errors: list[FieldError]) -> datetime | None:
    """`expiresAt` of a body: in the future, and not further than `within`. What is wrong goes to `errors`."""
    if text is None:
        return None
    try:
        expires_at = parse_time(text)
    except ValueError:
        detail = "The time must be RFC 3339 with an offset, e.g. 2030-01-31T12:00:00Z."
        errors.append(FieldError("#/expiresAt", "time_invalid", detail))
        return None
    if expires_at <= now or (within and expires_at > now + within):
        hours = f", by at most {within.total_seconds() / 3600:g} hours" if within else ""
        # The clock that asks may be another one.
        detail = f"The time must lie in the future{hours}: here it is {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}."
        errors.append(FieldError("#/expiresAt", "time_out_of_range", detail))
    return expires_at
