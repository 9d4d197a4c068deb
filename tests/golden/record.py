"""Keep what this release writes, for every later one to read: `python -m tests.golden.record`, once per release.

A file holds whole orders: each entry as it is in the log, and the state after it. A recorded file never changes.
"""

import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from libs.events.log import Snapshot
from libs.events.model import Event, OrderCancelled, OrderExpired, OrderFailed, Reason, RoutingStarted
from libs.events.schema_files import schemas
from tests.builders import (
    NOW,
    a_request,
    attempt_failed,
    route_selected,
    routing_started,
    then,
    tx_confirmed,
    tx_submitted,
)

FOLDER = Path(__file__).parent
FAILED = OrderFailed(stage="routing", attempt=1, reason=Reason.NO_ROUTE, detail="no venue knows the pair")
HISTORIES: dict[str, tuple[Event, ...]] = {
    "confirmed at the second attempt": (
        routing_started(),
        attempt_failed(),
        routing_started(2),
        route_selected(2),
        tx_submitted(2),
        tx_confirmed(2),
    ),
    "failed": (routing_started(), FAILED),
    "cancelled": (routing_started(), route_selected(), OrderCancelled()),
    "expired": (RoutingStarted(attempt=1), OrderExpired(expires_at=NOW)),
}


def lines() -> Iterator[dict[str, Any]]:
    """One for each event."""
    for name, bodies in HISTORIES.items():
        step, now = a_request(4, idempotency_key="key-1", fingerprint="print-1", request_id="request-1")
        yield _line(name, now)
        for body in bodies:
            step, now = then(now, body)
            yield _line(name, now)
        del step


def _line(history: str, now: Snapshot) -> dict[str, Any]:
    return {"history": history, "fields": now.event.fields(), "state": now.order.model_dump(mode="json")}


def main() -> int:
    """Record the present release."""
    folder = FOLDER / version("swaplog")
    if folder.exists():
        sys.stderr.write(f"{folder.name} is recorded already: what was released does not change\n")
        return 1
    (folder / "schemas").mkdir(parents=True)
    (folder / "events.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines())) + b"\n")
    for name, content in schemas().items():
        (folder / "schemas" / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
