"""A whole order, and its way into a log."""

from collections.abc import Sequence

from libs.events.log import Committed, EventLog, Snapshot
from libs.events.model import Event
from tests.builders import a_request, attempt_failed, route_selected, routing_started, then, tx_confirmed, tx_submitted

# What follows the request: confirmed at the second attempt.
JOURNEY: tuple[Event, ...] = (
    routing_started(),
    attempt_failed(),
    routing_started(2),
    route_selected(2),
    tx_submitted(2),
    tx_confirmed(2),
)


async def journey(log: EventLog, user: str = "user-1", bodies: Sequence[Event] = JOURNEY) -> Snapshot:
    """A new order of `user` and what happened to it, one commit each; gives the order as it is then."""
    step, now = a_request(log.partitions, user)
    assert isinstance(await log.commit(step), Committed)
    for body in bodies:
        step, now = then(now, body)
        assert isinstance(await log.commit(step), Committed)
    return now
