"""How parked items look on a terminal, and as JSON lines."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
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
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("id", "service", "order", "event", "tries", "made", "parked", "print", "reason"):
        table.add_column(title, overflow="fold")
    for item in items:
        said = about.get(name_of(item))
        reason = f"{item.reason}; discarded by {said.by}: {said.reason}" if said else item.reason
        values = (name_of(item), item.service, item.order_id, item.event_type, str(item.deliveries))
        table.add_row(*values, _time(item.made_ms), _time(item.parked_ms), item.fingerprint, Text(harmless(reason)))
    console.print(table)


def _time(ms: int) -> str:
    return str(shown_time(datetime.fromtimestamp(ms / 1_000, UTC)))
