"""What the notifier says about itself: one function per thing that happens, log line and metric together."""

import time

import structlog
from prometheus_client import Counter, Gauge, Histogram

from services.notifier.limits import Close

_log = structlog.get_logger()

_SOCKETS = Gauge("swaplog_notifier_sockets", "WebSockets that are subscribed")
_MESSAGES = Counter("swaplog_notifier_messages", "events handed to sockets")
_DELAY = Histogram(
    "swaplog_notifier_delay_seconds",
    "from the commit of the oldest event of those written together to handing them to their sockets",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
_CLOSED = Counter("swaplog_notifier_closed", "sockets this side closed", ["cause"])
_RESETS = Counter("swaplog_notifier_resets", "times every socket got a fresh snapshot because entries were missing")
_UNREADABLE = Counter("swaplog_notifier_unreadable", "entries that could not be decoded or shown")


def subscribed(user: str, orders: set[str] | None) -> None:
    _SOCKETS.inc()
    _log.debug("subscribed", user=user, orders=len(orders or ()))


def left(user: str, orders: set[str] | None) -> None:
    _SOCKETS.dec()
    _log.debug("left", user=user, orders=len(orders or ()))


def delivered(messages: int, oldest_ms: int) -> None:
    _MESSAGES.inc(messages)
    _DELAY.observe(max(0.0, time.time() - oldest_ms / 1000))


def closed(user: str, close: Close) -> None:
    _CLOSED.labels(close.name.lower()).inc()
    if close is Close.SLOW:
        _log.warning("slow socket closed", user=user)


def hole_found(reason: str) -> None:
    _RESETS.inc()
    _log.error("entries are missing: every socket gets a fresh snapshot", reason=reason)


def not_resumed(user: str, why: str) -> None:
    _log.info("not resumed, reset and snapshot instead", user=user, why=why)


def version_skipped(order_id: str, expected: int, found: int) -> None:
    _log.error("an event of an order is missing: fresh snapshot", order_id=order_id, expected=expected, found=found)


def entry_unreadable(event_id: str, reason: str) -> None:
    _UNREADABLE.inc()
    _log.error("entry cannot be shown: subscribers miss it", event_id=event_id, reason=reason)


def order_unreadable(order_id: str, reason: str) -> None:
    _log.error("order of an event cannot be read", order_id=order_id, reason=reason)


def log_away(reason: str, wait_s: float) -> None:
    _log.warning("the log cannot be read", reason=reason, retry_in_s=round(wait_s, 2))


def snapshot_failed(user: str, reason: str) -> None:
    _log.warning("no snapshot, socket closed", user=user, reason=reason)


def draining(sockets: int) -> None:
    _log.info("draining", sockets=sockets)
