"""Who must act next: the whole choreography on one screen."""

from libs.events.model import (
    AttemptFailed,
    Event,
    OrderCancelled,
    OrderExpired,
    OrderFailed,
    OrderOpened,
    OrderRequested,
    Reason,
    RouteSelected,
    RoutingStarted,
    Status,
    TxConfirmed,
    TxSubmitted,
)

ROUTER, EXECUTOR = "router", "executor"
WORKERS = (ROUTER, EXECUTOR)

NEXT_ACTOR: dict[type[Event], str | None] = {
    OrderRequested: ROUTER,
    RoutingStarted: ROUTER,
    RouteSelected: EXECUTOR,
    OrderOpened: ROUTER,  # when the price has moved, or its time is over
    TxSubmitted: EXECUTOR,
    TxConfirmed: None,
    AttemptFailed: ROUTER,  # when its delay is over
    OrderFailed: None,
    OrderCancelled: None,
    OrderExpired: None,
}

STATUS_AFTER: dict[type[Event], Status] = {
    OrderRequested: Status.PENDING,
    RoutingStarted: Status.ROUTING,
    RouteSelected: Status.BUILDING,
    OrderOpened: Status.OPEN,
    TxSubmitted: Status.SUBMITTED,
    TxConfirmed: Status.CONFIRMED,
    AttemptFailed: Status.RETRYING,
    OrderFailed: Status.FAILED,
    OrderCancelled: Status.CANCELLED,
    OrderExpired: Status.EXPIRED,
}

TERMINAL = frozenset({Status.CONFIRMED, Status.FAILED, Status.CANCELLED, Status.EXPIRED})

# A cancel is accepted until a signed transaction exists; after it only the chain decides.
CANCELLABLE = frozenset({Status.PENDING, Status.ROUTING, Status.OPEN, Status.BUILDING, Status.RETRYING})

# Trying again cannot help: the order fails at once.
PERMANENT = frozenset({Reason.NO_ROUTE, Reason.AMOUNT_TOO_SMALL, Reason.UNKNOWN_TOKEN, Reason.INSUFFICIENT_FUNDS})

# Of an execution: its venue may be at fault, or of several together the transaction have been too much for the chain.
# The next attempt goes over another, or over one alone.
PERHAPS_BY_THE_ROUTE = frozenset({Reason.VENUE_REFUSED, Reason.VENUES_UNAVAILABLE, Reason.TRANSACTION_REJECTED})


def next_actor(event: Event) -> str | None:
    """The service that must act on `event`, or None when the order has ended or the event is unknown."""
    return NEXT_ACTOR.get(type(event))


def delay_ms(event: Event) -> int | None:
    """How long the next actor must wait, or None when it may act at once."""
    return event.delay_ms if isinstance(event, AttemptFailed | OrderOpened) else None
