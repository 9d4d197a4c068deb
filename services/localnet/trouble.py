"""Injected trouble: what a bad day looks like, on purpose, decided from the seed."""

import random
from typing import Any

from services.localnet.execution import REVERTED, SLIPPAGE

VENUES = ("raydium", "meteora", "orca")
TARGETS = (*VENUES, "rpc")
LATENCY_MS_MAX = 600_000
COUNT_MAX = 1_000_000


class TroubleError(ValueError):
    """The described trouble is not one we know; the text is one sentence."""


class Trouble:
    """Mutable: what is wrong with this world now. Rates are shares of transactions, 0 to 1."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  (chance for tests, repeatable on purpose)
        self.clear()

    def clear(self) -> None:
        """All quiet."""
        self.latency_ms = 0
        self.venue_latency_ms: dict[str, int] = {}
        self.drop_rate = 0.0
        self.revert_rate = 0.0
        self.slippage_rate = 0.0
        self.outages: frozenset[str] = frozenset()
        self.drop_next = 0
        self.revert_next = 0

    def drops(self) -> bool:
        """Whether the transaction arriving now is lost without a trace."""
        if self.drop_next:
            self.drop_next -= 1
            return True
        return bool(self.drop_rate) and self._random.random() < self.drop_rate

    def failure(self) -> int | None:
        """The custom error the transaction being executed fails with, or None."""
        if self.revert_next:
            self.revert_next -= 1
            return REVERTED
        if self.revert_rate and self._random.random() < self.revert_rate:
            return REVERTED
        if self.slippage_rate and self._random.random() < self.slippage_rate:
            return SLIPPAGE
        return None

    def latency(self, target: str) -> float:
        """Seconds every answer of `target` is late."""
        return self.venue_latency_ms.get(target, self.latency_ms) / 1000

    def update(self, fields: dict[str, Any]) -> None:
        """Set the named fields, leave the others.

        Raises:
            TroubleError: an unknown field or value; nothing is changed then.
        """
        checked = {name: _checked(name, value) for name, value in fields.items()}
        for name, value in checked.items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """Every field, as `update` takes it."""
        return {name: sorted(value) if isinstance(value := getattr(self, name), frozenset) else value
                for name in _FIELDS}  # fmt: skip


def _checked(name: str, value: Any) -> Any:
    if name not in _FIELDS:
        raise TroubleError(f"{name!r} is no field; there are {', '.join(_FIELDS)}.")
    if name == "outages":
        if not isinstance(value, list) or not all(item in TARGETS for item in value):
            raise TroubleError(f"outages must be a list of {', '.join(TARGETS)}.")
        return frozenset(value)
    if name == "venue_latency_ms":
        if not isinstance(value, dict) or not all(venue in VENUES for venue in value):
            raise TroubleError(f"venue_latency_ms must be an object with {', '.join(VENUES)}.")
        return {venue: _count(name, ms, LATENCY_MS_MAX) for venue, ms in value.items()}
    if name.endswith("_rate"):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise TroubleError(f"{name} must be a number from 0 to 1.")
        return float(value)
    return _count(name, value, LATENCY_MS_MAX if name == "latency_ms" else COUNT_MAX)


def _count(name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise TroubleError(f"{name} must be a whole number from 0 to {most}.")
    return value


_FIELDS = (
    "latency_ms", "venue_latency_ms", "drop_rate", "revert_rate", "slippage_rate", "outages",
    "drop_next", "revert_next",
)  # fmt: skip
