"""Errors as clients see them: RFC 9457 problem documents with a stable `code`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import orjson
from aiohttp import web

from services.gateway import limits
from services.gateway.bodies import FieldError

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """`retryable`: the same request may succeed later, unchanged."""

    status: int
    title: str
    retryable: bool = False


# A released code keeps its meaning and its status.
KINDS: Mapping[str, Kind] = {
    "malformed_body": Kind(400, "The body cannot be read"),
    "malformed_request": Kind(400, "The request cannot be read"),
    "invalid_parameter": Kind(400, "A parameter is not usable"),
    "invalid_idempotency_key": Kind(400, "The Idempotency-Key is not usable"),
    "token_missing": Kind(401, "No access token"),
    "token_invalid": Kind(401, "The access token is not valid"),
    "ticket_invalid": Kind(401, "The ticket is not valid"),
    "credentials_invalid": Kind(401, "Wrong email or password"),
    "refresh_token_invalid": Kind(401, "The refresh token is not valid"),
    "scope_missing": Kind(403, "Not allowed with this credential"),
    "not_found": Kind(404, "There is nothing at this address"),
    "order_not_found": Kind(404, "No such order"),
    "no_quote": Kind(404, "No venue quotes this"),
    "api_key_not_found": Kind(404, "No such API key"),
    "method_not_allowed": Kind(405, "The method is not allowed here"),
    "request_timeout": Kind(408, "The body took too long to arrive", retryable=True),
    "email_taken": Kind(409, "The email is taken"),
    "too_many_api_keys": Kind(409, "As many API keys as may be"),
    "too_many_open_orders": Kind(409, "As many open orders as may be"),
    "order_not_cancellable": Kind(409, "The order can no longer be cancelled"),
    "cursor_gone": Kind(410, "The cursor cannot be gone on from"),
    "precondition_failed": Kind(412, "The order has changed"),
    "body_too_large": Kind(413, "The body is too large"),
    "unsupported_media_type": Kind(415, "The body must be JSON"),
    "invalid_body": Kind(422, "The body is not valid"),
    "idempotency_key_reused": Kind(422, "The Idempotency-Key was used for another order"),
    "upgrade_required": Kind(426, "This address speaks WebSocket only"),
    "rate_limited": Kind(429, "Too many requests", retryable=True),
    "too_many_connections": Kind(429, "Too many connections of this user", retryable=True),
    "internal_error": Kind(500, "Something went wrong on our side"),
    "busy": Kind(503, "Too much at once", retryable=True),
    "database_unavailable": Kind(503, "The database is away", retryable=True),
    "log_unavailable": Kind(503, "The log is away; nothing was written", retryable=True),
    "venues_unavailable": Kind(503, "No venue can be asked for the moment", retryable=True),
    "overloaded": Kind(503, "New orders are not taken for the moment", retryable=True),
    "notifier_unavailable": Kind(503, "The notifier is away", retryable=True),
    "outcome_unknown": Kind(503, "It is not known whether the request took effect", retryable=True),
}


class Problem(Exception):
    """An answer other than success.

    `code` is a key of `KINDS`; `members` are extension members of the document, or `retryable` where this time it is
    not; `headers` go with the answer.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **members: object,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.errors, self.members = code, detail, errors, members
        self.kind = KINDS[code]
        self.headers = dict(headers or {})
        if members.get("retryable", self.kind.retryable):
            self.headers.setdefault("Retry-After", str(limits.RETRY_AFTER_S))


def problem_of_status(error: web.HTTPException) -> Problem:
    """What aiohttp refuses by itself, in our words."""
    match error.status:
        case 404:
            return Problem("not_found", "There is no such route; /api/docs tells all there are.")
        case 405:
            allowed = error.headers.get("Allow", "")
            return Problem("method_not_allowed", f"Allowed here: {allowed}.", headers={"Allow": allowed})
        case 413:
            return Problem("body_too_large", f"A body may hold {limits.BODY_BYTES_MAX} bytes.")
        case 415:
            return Problem("unsupported_media_type", "Send application/json.")
        case status if status < 500:
            return Problem("malformed_request", HTTPStatus(status).phrase)
        case _:
            return Problem("internal_error", "The request could not be answered.")


def problem_response(problem: Problem, instance: str, request_id: str) -> web.Response:
    """The document as an answer. `instance`: the path asked for."""
    # Some caches keep refusals, too: an order not found would stay so, and for its owner if a stranger had asked.
    headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store", **problem.headers}
    body = orjson.dumps(document(problem, instance, request_id))
    return web.Response(status=problem.kind.status, body=body, headers=headers)


def document(problem: Problem, instance: str, request_id: str) -> dict[str, object]:
    """The members of RFC 9457, and ours."""
    kind = problem.kind
    return {
        "type": f"/api/docs#{problem.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        "instance": instance,
        "code": problem.code,
        "requestId": request_id,
        "retryable": kind.retryable,
        "errors": problem.errors[: limits.ERRORS_SHOWN_MAX],
        **problem.members,
    }
