"""From what a service decided to a step of the log."""

from collections.abc import Sequence
from datetime import datetime

from libs.events.log import Idempotency, Item, Snapshot, Step
from libs.events.model import Envelope, Event, OrderRequested
from libs.events.order import evolve


def follow(
    before: Snapshot, bodies: Sequence[Event], *, source: str, now: datetime, item: Item | None = None
) -> tuple[Step, Snapshot]:
    """The step that adds `bodies` after `before`, and the order as it will be then."""
    order, cause = before.order, before.event
    events: list[Envelope] = []
    for body in bodies:
        event = Envelope(
            id=f"{order.id}/{order.version + 1}",
            type=type(body).__name__,
            v=body.SCHEMA_VERSION,
            source=source,
            subject=order.id,
            user=order.user,
            version=order.version + 1,
            time=now,
            cause=cause.id,
            traceparent=cause.traceparent,
            data=body,
        )
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
) -> tuple[Step, Snapshot]:
    """The step that makes a new order, and the order as it will be then."""
    event = Envelope(
        id=f"{order_id}/1",
        type=type(body).__name__,
        v=body.SCHEMA_VERSION,
        source=source,
        subject=order_id,
        user=user,
        version=1,
        time=now,
        traceparent=traceparent,
        data=body,
    )
    order = evolve(None, event)
    return Step(order_id, user, 0, (event,), order, idempotency=idempotency), Snapshot(order, event)
