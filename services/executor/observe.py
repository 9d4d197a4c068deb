"""What the executor did, in its own words: each function is one log line and its metrics."""

import structlog
from prometheus_client import Counter, Histogram

from libs.events.model import AttemptFailed, OrderExpired, OrderFailed, TxConfirmed, TxSubmitted
from libs.events.order import Order

_log = structlog.get_logger()

_SIGNED = Counter("swaplog_transactions_signed_total", "Transactions signed, each an intent in the log before sending")
_SENDS = Counter("swaplog_transaction_sends_total", "Transactions handed to the chain; again: same bytes", ["again"])
_SENT, _SENT_AGAIN = _SENDS.labels("false"), _SENDS.labels("true")
_SEND_TROUBLE = Counter("swaplog_transaction_send_trouble_total", "Sends the chain did not take", ["kind"])
_CONFIRMED = Counter("swaplog_orders_confirmed_total", "Orders settled")
_FAILURES = Counter("swaplog_execution_failures_total", "Attempts that did not settle", ["reason", "final"])
_EXPIRED = Counter("swaplog_executor_orders_expired_total", "Orders that expired before anything was submitted")
_AGAINST_QUOTE = Histogram(
    "swaplog_against_quote_ppm",
    "Amount out against the quote",
    buckets=(-10_000, -5_000, -1_000, -100, -1, 0, 100, 1_000, 10_000),
)


def transaction_signed(order: Order, event: TxSubmitted, venue: str) -> None:
    _SIGNED.inc()
    # The event says the same, for ever.
    _log.debug("transaction_signed", order_id=order.id, venue=venue, signature=event.signature)


def transaction_sent(order: Order, event: TxSubmitted, *, again: bool) -> None:
    if again:
        _SENT_AGAIN.inc()
        _log.info("transaction_sent_again", order_id=order.id, signature=event.signature)
    else:
        _SENT.inc()
        _log.debug("transaction_sent", order_id=order.id, signature=event.signature)


def send_trouble(order: Order, event: TxSubmitted, kind: str, why: str, *, news: bool) -> None:
    """Not a conclusion: the transaction may be on its way all the same. Repeats are counted, but not told loudly."""
    _SEND_TROUBLE.labels(kind).inc()
    say = _log.warning if news else _log.debug
    say("transaction_send_trouble", order_id=order.id, signature=event.signature, kind=kind, why=why)


def list_refused(why: str, calls_max: int) -> None:
    _log.warning("the node refuses a list of calls: shorter ones", why=why, calls_max=calls_max)


def look_trouble(order: Order, event: TxSubmitted, why: str, *, news: bool) -> None:
    """The order waits for as long as the node will not tell."""
    say = _log.warning if news else _log.debug
    say("transaction_look_trouble", order_id=order.id, signature=event.signature, why=why)


def outage_over(what: str, orders: int) -> None:
    """The trouble that was told of one order; so many had to wait meanwhile."""
    _log.info("transaction_trouble_over", what=what, orders=orders)


def transaction_confirmed(order: Order, event: TxConfirmed) -> None:
    _CONFIRMED.inc()
    _AGAINST_QUOTE.observe(event.against_quote_ppm)
    if order.route and event.amount_out < order.route.min_out:
        told = {"amount_out": event.amount_out, "min_out": order.route.min_out}
        venue = "+".join(leg.venue for leg in order.route.legs)
        _log.warning("settled_below_the_minimum_the_venue_was_given", order_id=order.id, venue=venue, **told)
    # As above.
    _log.debug("transaction_confirmed", order_id=order.id, signature=event.signature, amount_out=event.amount_out)


def attempt_failed(order: Order, event: AttemptFailed | OrderFailed) -> None:
    final = isinstance(event, OrderFailed)
    _FAILURES.labels(event.reason, str(final).lower()).inc()
    _log.warning(
        "order_failed" if final else "execution_attempt_failed",
        order_id=order.id,
        attempt=event.attempt,
        reason=event.reason,
        detail=event.detail,
        retry_in_ms=event.delay_ms if isinstance(event, AttemptFailed) else None,
    )


def order_expired(order: Order, event: OrderExpired) -> None:
    _EXPIRED.inc()
    _log.info("order_expired", order_id=order.id, expires_at=event.expires_at)
