"""The venue whose quote could not be had in the attempt before. Pure.

One that quotes best and does not build, or builds what the chain rejects, would win every attempt, and the order fail
beside others that would fill it.
"""

from libs.events.order import Order
from libs.events.reactions import PERHAPS_BY_THE_ROUTE


def failed_by_its_route(order: Order) -> bool:
    """Whether the attempt before failed for something that another route may be free of."""
    failed = order.failure
    return failed is not None and failed.stage == "execution" and failed.reason in PERHAPS_BY_THE_ROUTE


def venue_before(order: Order) -> str | None:
    """The venue to pass over. After several together each has yet to be tried alone."""
    legs = order.route.legs if order.route and failed_by_its_route(order) else ()
    return legs[0].venue if len(legs) == 1 else None


def least_instead(order: Order) -> int:
    """What another must give to be preferred: what the client was to get then at the least.

    That venue may be well again in a moment, and nobody is to get far less because it was not at once.
    """
    return order.route.min_out if order.route else 0
