"""What the gateway says about itself: one function per thing that happens, log line and metric together."""

from functools import cache

import structlog
from prometheus_client import Counter, Gauge, Histogram

_log = structlog.get_logger()

_ACCEPTED = Counter("swaplog_gateway_orders_accepted", "orders in the log and answered with 202")
_REPLAYED = Counter("swaplog_gateway_orders_replayed", "repetitions answered with the order their key made before")
_CANCELLED = Counter("swaplog_gateway_orders_cancelled", "orders cancelled")
_SIGNUPS = Counter("swaplog_gateway_signups", "accounts made")
_LOGINS = Counter("swaplog_gateway_logins", "attempts to log in", ["outcome"])
_TUNNELS = Gauge("swaplog_gateway_tunnels", "WebSockets handed over to the notifier and still open")
_OVERLOADED = Gauge("swaplog_gateway_overloaded", "1 while new orders are refused")
_WAITING = Gauge("swaplog_gateway_log_waiting_seconds", "age of the oldest work nobody has taken")
_FULLNESS = Gauge("swaplog_gateway_log_fullness", "share of the memory that orders may take in Redis; beyond 1 refused")
_COMMIT = Histogram(
    "swaplog_gateway_commit_seconds",
    "wait for the log to accept an order, or a batch of them",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
_REQUESTS = Histogram(
    "swaplog_gateway_request_seconds",
    "from the request to its answer",
    ["method", "route", "status"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
_PROBLEMS = Counter("swaplog_gateway_problems", "answers that were problems", ["code"])


@cache  # bounded by the routes and the statuses there are
def _requests(method: str, route: str, status: int) -> Histogram:
    return _REQUESTS.labels(method, route, str(status))


def request_answered(method: str, route: str, status: int, took_s: float) -> None:
    _requests(method, route, status).observe(took_s)


def orders_written(count: int, commit_s: float) -> None:
    """So many new orders are in the log, together."""
    _ACCEPTED.inc(count)
    _COMMIT.observe(commit_s)


def order_accepted(order_id: str, user: str, request_id: str, traceparent: str) -> None:
    """At `debug`: its event in the log says the same."""
    _log.debug("order_accepted", order_id=order_id, user=user, request_id=request_id, traceparent=traceparent)


def order_replayed(order_id: str, user: str, request_id: str) -> None:
    _REPLAYED.inc()
    _log.info("order_replayed", order_id=order_id, user=user, request_id=request_id)


def order_cancelled(order_id: str, version: int, user: str, request_id: str) -> None:
    _CANCELLED.inc()
    _log.info("order_cancelled", order_id=order_id, event_id=f"{order_id}/{version}", user=user, request_id=request_id)


def signed_up(user: str, request_id: str) -> None:
    _SIGNUPS.inc()
    _log.info("signed_up", user=user, request_id=request_id)


def logged_in(user: str, request_id: str) -> None:
    _LOGINS.labels("accepted").inc()
    _log.debug("logged_in", user=user, request_id=request_id)


def password_changed(user: str, request_id: str) -> None:
    _log.info("password_changed", user=user, request_id=request_id)


def login_refused(request_id: str) -> None:
    _LOGINS.labels("refused").inc()
    _log.info("login_refused", request_id=request_id)


def problem_answered(code: str, request_id: str, path: str, reason: str) -> None:
    """The client's fault; `reason` is for operators and may say more than the client is told."""
    _PROBLEMS.labels(code).inc()
    _log.debug("problem_answered", code=code, request_id=request_id, path=path, reason=reason)


def need_failed(code: str, request_id: str, path: str, error: BaseException) -> None:
    _PROBLEMS.labels(code).inc()
    _log.warning("need_failed", code=code, request_id=request_id, path=path, reason=str(error) or type(error).__name__)


def unexpected(request_id: str, path: str, error: BaseException) -> None:
    _PROBLEMS.labels("internal_error").inc()
    _log.error("unexpected_error", request_id=request_id, path=path, exc_info=error)


def rates_unknown(reason: str) -> None:
    """Rates are not counted while Redis is away; what writes fails by itself then."""
    _log.debug("rates_unknown", reason=reason)


def session_renewed(user: str, request_id: str) -> None:
    _log.debug("session_renewed", user=user, request_id=request_id)


def renewal_refused(request_id: str) -> None:
    """An unknown token, or one that was used before: then its session is over."""
    _log.warning("renewal_refused", request_id=request_id)


def key_made(key_id: str, user: str, request_id: str) -> None:
    _log.info("api_key_made", key_id=key_id, user=user, request_id=request_id)


def key_dropped(key_id: str, user: str, request_id: str) -> None:
    _log.info("api_key_dropped", key_id=key_id, user=user, request_id=request_id)


def tunnel_opened(request_id: str) -> None:
    _TUNNELS.inc()
    _log.debug("tunnel_opened", request_id=request_id)


def tunnel_closed(request_id: str) -> None:
    _TUNNELS.dec()
    _log.debug("tunnel_closed", request_id=request_id)


def need_away(need: str, reason: str, wait_s: float) -> None:
    _log.warning("need_away", need=need, reason=reason, retry_in_s=round(wait_s, 2))


def need_back(need: str) -> None:
    _log.info("need_there", need=need)


def pressure_measured(waiting_s: float, fullness: float) -> None:
    _WAITING.set(waiting_s)
    _FULLNESS.set(fullness)


def overload_changed(reason: str) -> None:
    """`reason`: "" when orders are taken again."""
    _OVERLOADED.set(1 if reason else 0)
    if reason:
        _log.warning("orders_refused", reason=reason)
    else:
        _log.info("orders_taken_again")


def waiting_orders_refused(reason: str) -> None:
    """`reason`: "" when they are taken again."""
    if reason:
        _log.warning("waiting_orders_refused", reason=reason)
    else:
        _log.info("waiting_orders_taken_again")


def pressure_unknown(reason: str) -> None:
    _log.debug("pressure_unknown", reason=reason)
