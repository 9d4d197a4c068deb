"""From what a service decided to a step of the log."""

from collections.abc import Sequence
from datetime import datetime

from libs.events.envelope import Envelope
from libs.events.log import Idempotency, Snapshot, Step
from libs.events.model import Event, OrderRequested
from libs.events.order import evolve
from libs.events.trusted import trusted
from libs.events.work import Item


def follow(
    before: Snapshot, bodies: Sequence[Event], *, source: str, now: datetime, item: Item | None = None
) -> tuple[Step, Snapshot]:
    """The step that adds `bodies` after `before`, and the order as it will be then."""
    order, cause = before.order, before.event
    events: list[Envelope] = []
    for body in bodies:
        event = _envelope(order.id, order.user, order.version + 1, source, now, cause.id, cause.traceparent, body)
        order, cause = evolve(order, event), event
        events.append(event)
    step = Step(order.id, order.user, before.order.version, tuple(events), order, item)
    return step, Snapshot(order, cause)


def request(
    body: OrderRequested,
    *,
    order_id: str,
    user: str,
    source: str,
    now: datetime,
    traceparent: str = "",
    idempotency: Idempotency | None = None,
    open_max: int | None = None,
) -> tuple[Step, Snapshot]:
    """The step that makes a new order, and the order as it will be then; `open_max` as in `Step`."""
    event = _envelope(order_id, user, 1, source, now, "", traceparent, body)
    order = evolve(None, event)
    return Step(order_id, user, 0, (event,), order, idempotency=idempotency, open_max=open_max), Snapshot(order, event)


def _envelope(
    order_id: str, user: str, version: int, source: str, now: datetime, cause: str, traceparent: str, body: Event
) -> Envelope:
    return trusted(
        Envelope,
        {
            "id": f"{order_id}/{version}",
            "type": type(body).__name__,
            "v": body.SCHEMA_VERSION,
            "source": source,
            "subject": order_id,
            "user": user,
            "version": version,
            "time": now,
            "cause": cause,
            "traceparent": traceparent,
            "data": body,
        },
    )
