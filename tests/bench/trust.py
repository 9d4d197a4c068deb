"""Which figures are not to be trusted, and why. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.bench.cpu import GENERATOR_MAX


def distrusted(figures: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """A line for everything that makes a figure worthless: orders lost, a generator that was busy with itself."""
    for reason in _reasons(figures):
        yield f"{path or 'all'}: {reason}"
    for name, part in figures.items():
        for number, one in enumerate(part if isinstance(part, list) else [part]):
            if isinstance(one, Mapping):
                below = f"{name}.{number}" if isinstance(part, list) else name
                yield from distrusted(one, f"{path}.{below}" if path else below)


def _reasons(figures: Mapping[str, Any]) -> Iterator[str]:
    accepted = figures.get("accepted")
    if accepted is not None and accepted < figures["orders"]:
        yield f"{figures['orders'] - accepted:g} orders not accepted: {figures['refused']}"
    if figures.get("not_ended"):
        yield f"{figures['not_ended']:g} orders not ended"
    if figures.get("trouble"):
        yield str(figures["trouble"])
    if figures.get("generator_cores", 0) > GENERATOR_MAX:
        yield f"the generator was busy with itself ({figures['generator_cores']:.2f} of a core)"
    if figures.get("restarts"):
        yield f"processes were started again: {figures['restarts']}"
