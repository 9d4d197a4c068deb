"""Figures out of measurements: percentiles, schedules, medians, ratios. Pure."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Result = dict[str, Any]

QUANTILES = (50, 95, 99)
CURVE = (0, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.9)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values in ascending order: always one of them.

    Raises:
        ValueError: there are no values.
    """
    if not ordered:
        raise ValueError("no values")
    # A hair's breadth is forgiven, so that 99.9 % of 1,000 are 999.
    rank = math.ceil(percent / 100 * len(ordered) - 1e-9)
    return ordered[min(len(ordered), max(1, rank)) - 1]


def latencies_ms(seconds: Sequence[float]) -> Result:
    """Count, percentiles and maximum of durations, in milliseconds; only the count when there are none."""
    ordered = sorted(seconds)
    figures: Result = {"count": len(ordered)}
    if ordered:
        figures |= {f"p{q}": round(percentile(ordered, q) * 1_000, 2) for q in QUANTILES}
        figures["max"] = round(ordered[-1] * 1_000, 2)
    return figures


def curve_ms(seconds: Sequence[float]) -> list[tuple[float, float]]:
    """Percent and the milliseconds within which so many were done, for a picture."""
    ordered = sorted(seconds)
    return [(percent, round(percentile(ordered, percent) * 1_000, 2)) for percent in CURVE if ordered]


def schedule(per_second: float, seconds: float) -> list[float]:
    """When to send, in seconds from the start: evenly spaced, fixed before the first answer is seen.

    Raises:
        ValueError: the rate or the time is not positive.
    """
    if per_second <= 0 or seconds <= 0:
        raise ValueError("the rate and the time must be positive")
    # A hair's breadth is forgiven, so that 0.1 s at 30/s are 3 and not 2.
    return [number / per_second for number in range(math.floor(per_second * seconds + 1e-9))]


def per_second(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds > 0 else 0.0


def cpu_per_order_ms(cpu_seconds: Mapping[str, float], orders: int) -> Result:
    """CPU time of each process and of all together, in milliseconds per order; nothing for no orders."""
    if orders <= 0:
        return {}
    shares = {name: round(seconds / orders * 1_000, 3) for name, seconds in cpu_seconds.items()}
    return {**shares, "total": round(sum(cpu_seconds.values()) / orders * 1_000, 3)}


def medians(runs: Sequence[Mapping[str, Any]]) -> Result:
    """The median over runs of every number, wherever it is; what is not a number is taken from the first run."""
    merged: Result = {}
    for key, first in runs[0].items():
        values = [run[key] for run in runs if key in run]
        if isinstance(first, Mapping):
            merged[key] = medians(values)
        elif isinstance(first, int | float) and not isinstance(first, bool):
            merged[key] = round(median(values), 3)
        else:
            merged[key] = first
    return merged


def flat(figures: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """Every number under its path: `{"a": {"b": 1}}` becomes `{"a.b": 1}`. Lists are left out."""
    found: dict[str, float] = {}
    for key, value in figures.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{path}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[path] = value
    return found


def ratios(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, tuple[float, float, float | None]]:
    """Path to (now, before, now / before) of every number both have; None where `before` is 0."""
    new, old = flat(now), flat(before)
    return {path: (new[path], old[path], new[path] / old[path] if old[path] else None) for path in new if path in old}
