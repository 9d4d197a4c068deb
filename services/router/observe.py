"""What the router did, in its own words: each function is one log line and its metrics."""

from collections.abc import Sequence
from functools import cache

import structlog
from prometheus_client import Counter, Histogram

from libs.events.model import AttemptFailed, OrderExpired, OrderFailed, OrderOpened, RouteSelected
from libs.events.order import Order
from libs.quoting.answer import Answer, NoQuote

_log = structlog.get_logger()

_ROUTES = Counter("swaplog_routes_selected_total", "Routes selected, by winning venue", ["venue"])
_FAILURES = Counter("swaplog_routing_failures_total", "Routing attempts without a route", ["reason", "final"])
_EXPIRED = Counter("swaplog_router_orders_expired_total", "Orders that expired before anything was submitted")
_ANSWERS = Counter("swaplog_venue_answers_total", "Answers of venues; result: quote or a reason", ["venue", "result"])
_ANSWER_SECONDS = Histogram(
    "swaplog_venue_answer_seconds",
    "Time a venue took to answer",
    ["venue"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2.5, 5),
)


@cache  # bounded by the venues and the reasons there are
def _answers(venue: str, result: str) -> Counter:
    return _ANSWERS.labels(venue, result)


_OPENED = Counter("swaplog_orders_opened_total", "Orders that wait for their price")
_WOKEN = Counter("swaplog_open_orders_woken_total", "Open orders whose price was met")


@cache
def _seconds(venue: str) -> Histogram:
    return _ANSWER_SECONDS.labels(venue)


@cache  # bounded by what venues may do together
def _routes(venue: str) -> Counter:
    return _ROUTES.labels(venue)


def venue_answered(answers: Sequence[Answer]) -> None:
    """One venue's, to questions that were asked together."""
    venue = answers[0].venue
    refusals = [answer.result for answer in answers if isinstance(answer.result, NoQuote)]
    _answers(venue, "quote").inc(len(answers) - len(refusals))
    for refusal in refusals:
        _answers(venue, refusal.reason).inc()
        _log.debug("venue_gave_no_quote", venue=venue, reason=refusal.reason, why=refusal.why)
    _seconds(venue).observe(max(answer.took_ms for answer in answers) / 1000)


def venue_away(venue: str, why: str) -> None:
    """Once: each order's RouteSelected says the same of its own."""
    _log.warning("venue_away", venue=venue, why=why)


def venue_back(venue: str, missed: int) -> None:
    """So many questions it did not answer."""
    _log.info("venue_back", venue=venue, missed=missed)


def decided(order: Order, decision: RouteSelected | OrderOpened | AttemptFailed | OrderFailed) -> None:
    if isinstance(decision, RouteSelected):
        _route_selected(order, decision)
    elif isinstance(decision, OrderOpened):
        _OPENED.inc()
        _log.info("order_opened", order_id=order.id, wanted_out=decision.wanted_out, best_out=decision.best_out)
    else:
        _routing_failed(order, decision)


def woken(orders: int) -> None:
    """Their price is met."""
    _WOKEN.inc(orders)
    _log.info("open_orders_woken", orders=orders)


def watch_failed(reason: str) -> None:
    _log.debug("prices_not_watched", reason=reason)


def watch_broken() -> None:
    """Inside `except`: in a way that nobody foresaw."""
    _log.exception("price_watch_broken")


def order_expired(order: Order, event: OrderExpired) -> None:
    _EXPIRED.inc()
    _log.info("order_expired", order_id=order.id, expires_at=event.expires_at)


def _route_selected(order: Order, event: RouteSelected) -> None:
    venue = "+".join(sorted(leg.venue for leg in event.route.legs))
    _routes(venue).inc()
    # The event says all of it, for ever.
    _log.debug("route_selected", order_id=order.id, attempt=event.attempt, venue=venue)


def _routing_failed(order: Order, event: AttemptFailed | OrderFailed) -> None:
    final = isinstance(event, OrderFailed)
    _FAILURES.labels(event.reason, str(final).lower()).inc()
    _log.warning(
        "order_failed" if final else "routing_attempt_failed",
        order_id=order.id,
        attempt=event.attempt,
        reason=event.reason,
        detail=event.detail,
        retry_in_ms=event.delay_ms if isinstance(event, AttemptFailed) else None,
    )
