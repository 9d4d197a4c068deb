"""The gateway as an aiohttp application: its addresses, and one middleware around them all."""

import asyncio
import time

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from libs.events.errors import LogMismatch, LogUnavailable
from libs.orders.store import StoreUnavailable
from libs.service.health import Health, health_routes
from services.gateway import limits, observe
from services.gateway.accounts import DatabaseUnavailable, EmailTaken
from services.gateway.api import REQUEST_ID, Api, Parts
from services.gateway.auth import Busy
from services.gateway.commands import OutcomeUndecided
from services.gateway.dto import Invalid, Malformed
from services.gateway.problems import Problem, problem_of_status, problem_response
from services.gateway.tracing import request_id_of
from services.gateway.tunnel import NotifierUnavailable, TooManyTunnels

_SAFE = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})

# Errors with a problem of their own; what the client is told says nothing about our insides.
_FATES: tuple[tuple[type[Exception], str, str], ...] = (
    (EmailTaken, "email_taken", "There is an account with this email already."),
    (Busy, "busy", "Too many people are signing in at this moment."),
    (TooManyTunnels, "busy", "Too many WebSockets are open."),
    (OutcomeUndecided, "outcome_unknown", "Ask again with the same Idempotency-Key, or look at your orders."),
    (LogUnavailable, "log_unavailable", "The log of orders cannot be reached."),
    (LogMismatch, "log_unavailable", "The log of orders is not the one it was."),
    (DatabaseUnavailable, "database_unavailable", "The database cannot be reached."),
    (StoreUnavailable, "database_unavailable", "The database cannot be reached."),
    (NotifierUnavailable, "notifier_unavailable", "The WebSocket service cannot be reached."),
    (web.RequestPayloadError, "malformed_body", "The body does not arrive as its headers say."),
)


def make_app(parts: Parts, health: Health) -> web.Application:
    """The application, ready to be served."""
    api = Api(parts)
    app = web.Application(middlewares=[_middleware(parts)], client_max_size=limits.BODY_BYTES_MAX)
    app.add_routes(
        [
            web.post("/api/auth/signup", api.sign_up),
            web.post("/api/auth/login", api.log_in),
            web.post("/api/orders", api.place_order),
            web.get("/api/orders", api.list_orders),
            web.get("/api/orders/{order_id}", api.get_order),
            web.get("/api/orders/{order_id}/events", api.get_events),
            web.delete("/api/orders/{order_id}", api.cancel_order),
            web.get("/api/ws/{rest:.*}", api.web_socket, allow_head=False),
            *health_routes(health),
        ]
    )

    async def close_tunnels(_app: web.Application) -> None:
        parts.tunnels.close()

    # Before the server waits for requests in hand: a tunnel is one, and would last for ever.
    app.on_shutdown.append(close_tunnels)
    return app


def _middleware(parts: Parts) -> Middleware:
    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give the request its name, and whatever goes wrong its document."""
        started = time.perf_counter()
        request_id = request[REQUEST_ID] = request_id_of(request.headers.get("X-Request-Id"))
        try:
            response = await _in_time(handler, request)
        except ConnectionResetError:
            raise  # the client has gone: nobody is left to answer
        except Exception as error:
            if isinstance(error, LogMismatch):
                parts.log_open.clear()
            problem = _problem_of(error)
            _report(problem, error, request_id, request.path)
            response = problem_response(problem, request.path, request_id)
        response.headers["X-Request-Id"] = request_id
        if response.status != 101:  # a WebSocket's life is no answering time
            resource = request.match_info.route.resource
            route = resource.canonical if resource else "none"
            method = request.method if request.method in hdrs.METH_ALL else "other"
            observe.request_answered(method, route, response.status, time.perf_counter() - started)
        return response

    return answer


async def _in_time(handler: Handler, request: web.Request) -> web.StreamResponse:
    """Bound what only reads: a store that stays silent must not keep the client waiting. Writes bound themselves."""
    if request.method not in _SAFE or request.path.startswith("/api/ws/"):
        return await handler(request)
    try:
        async with asyncio.timeout(limits.READ_DEADLINE_S):
            return await handler(request)
    except TimeoutError:
        raise DatabaseUnavailable(f"no answer within {limits.READ_DEADLINE_S} s") from None


def _problem_of(error: Exception) -> Problem:
    for kind, code, detail in _FATES:
        if isinstance(error, kind):
            return Problem(code, detail)
    match error:
        case Problem():
            return error
        case Malformed():
            return Problem("malformed_body", str(error))
        case Invalid():
            return Problem("invalid_body", str(error), errors=error.errors)
        case web.HTTPException():
            return problem_of_status(error)
    return Problem("internal_error", "The error was recorded under this requestId.")


def _report(problem: Problem, error: Exception, request_id: str, path: str) -> None:
    if problem.kind.status == 500:
        observe.unexpected(request_id, path, error)
    elif problem.kind.status == 503:
        observe.need_failed(problem.code, request_id, path, error)
    else:
        observe.problem_answered(problem.code, request_id, path, str(error))
