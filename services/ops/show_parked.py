"""How parked items look on a terminal, and as JSON lines."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from libs.events.parked import Discarded, Parked
from libs.orders.presentation import shown_time
from libs.service.terminal import harmless


def name_of(parked: Parked) -> str:
    """How operators name a parked item: ids are unique within a partition only."""
    return f"{parked.partition}:{parked.id}"


def parked_json(item: Parked) -> dict[str, Any]:
    """One item for programs."""
    return {
        "id": name_of(item),
        "service": item.service,
        "order": item.order_id,
        "event": item.event_id,
        "type": item.event_type,
        "deliveries": item.deliveries,
        "reason": item.reason,
        "fingerprint": item.fingerprint,
        "traceparent": item.traceparent,
        "made": _time(item.made_ms),
        "parked": _time(item.parked_ms),
    }


def discarded_json(about: Discarded | None) -> dict[str, Any]:
    """What was said when it was given up."""
    return {"discarded": _time(about.at_ms), "by": about.by, "because": about.reason} if about else {}


def print_parked(items: list[Parked], about: dict[str, Discarded], console: Console) -> None:
    """For people; `about`: what was said of those that were given up, by name."""
    if not items:
        console.print("nothing", style="green")
    for item in items:
        # Ids are there to be copied: beside a reason in a column of its own a terminal would break them.
        what = harmless(f"  {item.service}  {item.event_type or '?'}  {item.order_id}")
        head = Text.assemble((name_of(item), "bold"), what)
        tries = "1 try" if item.deliveries == 1 else f"{item.deliveries} tries"
        console.print(head)
        _print_below(f"parked {_time(item.parked_ms)} after {tries}, fingerprint {item.fingerprint}", "dim", console)
        _print_below(" ".join(item.reason.split()), "red", console)
        if said := about.get(name_of(item)):
            _print_below(f"discarded {_time(said.at_ms)} by {said.by}: {said.reason}", "", console)


def _print_below(text: str, style: str, console: Console) -> None:
    console.print(Padding(Text(harmless(text), style), (0, 0, 0, 2), expand=False))


def _time(ms: int) -> str:
    return str(shown_time(datetime.fromtimestamp(ms / 1_000, UTC)))
