"""What becomes of each error: a problem for the client, a line for operators."""

from urllib.parse import quote

from aiohttp import web

from libs.events.errors import LogMismatch, LogUnavailable
from libs.orders.resume import NotResumable
from libs.orders.store import StoreBehind, StoreUnavailable
from libs.service.shared import SharedUnavailable
from libs.service.turns import NoTurnFree, TurnTooFar
from services.gateway import observe
from services.gateway.accounts import DatabaseUnavailable, EmailTaken
from services.gateway.auth import Busy
from services.gateway.bodies import Invalid, Malformed
from services.gateway.commands import KeyReused, OpenOrdersFull, OutcomeUndecided
from services.gateway.problems import Problem, problem_of_status
from services.gateway.reading import REQUEST_ID
from services.gateway.tunnel import NotifierUnavailable, TooManyTunnels

# Errors with a problem of their own; what the client is told says nothing about our insides.
_FATES: tuple[tuple[type[Exception], str, str], ...] = (
    (EmailTaken, "email_taken", "There is an account with this email already."),
    (Busy, "busy", "Too many people are signing in at this moment."),
    (TooManyTunnels, "busy", "Too many WebSockets are open."),
    (LogUnavailable, "log_unavailable", "The log of orders cannot be reached."),
    (LogMismatch, "log_unavailable", "The log of orders is not the one it was."),
    (SharedUnavailable, "log_unavailable", "Redis cannot be reached."),
    (DatabaseUnavailable, "database_unavailable", "The database cannot be reached."),
    (StoreBehind, "database_unavailable", "The database is behind: not all of your orders can be listed yet."),
    (StoreUnavailable, "database_unavailable", "The database cannot be reached."),
    (NotifierUnavailable, "notifier_unavailable", "The WebSocket service cannot be reached."),
    (NoTurnFree, "busy", "Much is read for others now: come back."),
    (TurnTooFar, "rate_limited", "What you asked for before is still read: ask for one thing after the other."),
    (web.RequestPayloadError, "malformed_body", "The body does not arrive as its headers say."),
)


OVERLOADED = "overloaded"  # operators were told when it began: each order that is refused would fill the logs


def _problem_of(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case KeyReused():
            detail = "This Idempotency-Key came with another order before."
            return Problem("idempotency_key_reused", detail, existingOrderId=error.order_id)
        case OpenOrdersFull():
            detail = f"{error}: wait for one to end, or cancel it."
            return Problem("too_many_open_orders", detail, openOrders=error.count)
        case OutcomeUndecided():
            return _undecided(error)
        case Malformed():
            return Problem("malformed_body", str(error))
        case Invalid():
            return Problem("invalid_body", str(error), errors=error.errors)
        case NotResumable():
            return Problem("cursor_gone", f"{error} Read your orders anew, and go on from a new cursor.")
        case web.HTTPException():
            return problem_of_status(error)
    return _problem_in_fixed_words(error)


def _problem_in_fixed_words(error: Exception) -> Problem:
    for kind, code, detail in _FATES:
        if isinstance(error, kind):
            return Problem(code, detail)
    return Problem("internal_error", "The error was recorded under this requestId.")


def _undecided(unknown: OutcomeUndecided) -> Problem:
    # A program repeats what it is told may be, and without a key that would be another order.
    again = unknown.key is not None or not unknown.places
    found_by = unknown.order_id
    if unknown.key is not None:
        advice = "Ask again with the same Idempotency-Key, or look it up."
        found_by = f"by-client-id/{quote(unknown.key, safe='')}"
    elif unknown.places:
        advice = "Look it up before you ask again: without an Idempotency-Key that would be another order."
    else:
        advice = "Ask again, or look it up."
    return Problem("outcome_unknown", advice, retryable=again, lookUp=f"/api/orders/{found_by}")


def report(error: Exception, request: web.Request) -> Problem:
    """Say what went wrong to operators, and give what is said to the client."""
    problem, request_id, path = _problem_of(error), request[REQUEST_ID], request.path
    if problem.kind.status == 500:
        observe.unexpected(request_id, path, error)
    elif problem.kind.status == 503 and problem.code != OVERLOADED:
        observe.need_failed(problem.code, request_id, path, error)
    else:
        observe.problem_answered(problem.code, request_id, path, str(error))
    return problem
