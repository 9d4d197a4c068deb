"""Bounding what only reads: a store that stays silent must not keep the client waiting. Commits bound themselves."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from services.gateway import limits
from services.gateway.accounts import DatabaseUnavailable

Read = TypeVar("Read")


async def in_time(reading: Awaitable[Read]) -> Read:
    """What was read. Raises DatabaseUnavailable when that takes too long."""
    try:
        async with asyncio.timeout(limits.READ_DEADLINE_S):
            return await reading
    except TimeoutError:
        raise DatabaseUnavailable(f"no answer within {limits.READ_DEADLINE_S} s") from None
