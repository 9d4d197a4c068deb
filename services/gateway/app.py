"""The gateway as an aiohttp application: its addresses, and one middleware around them all."""

import time

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from libs.events.errors import LogMismatch
from libs.service.health import Health, health_routes
from services.gateway import limits, observe
from services.gateway.api import Api
from services.gateway.cors import cors_headers, preflight
from services.gateway.descriptions import description_routes
from services.gateway.entry import PATH as ENTRY_PATH, OrderEntry
from services.gateway.fates import report
from services.gateway.in_time import in_time
from services.gateway.lookups import Lookups
from services.gateway.parts import Parts
from services.gateway.problems import problem_response
from services.gateway.quoting import Quoting
from services.gateway.rates import rate_headers
from services.gateway.reading import REQUEST_ID
from services.gateway.signing_in import SigningIn
from services.gateway.tracing import request_id_of

# They last, or wait for venues, which have a deadline of their own.
_NOT_OF_STORES = ("/api/ws/", "/api/stream/", "/api/quotes")
_SAFE = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


def make_app(parts: Parts, health: Health) -> web.Application:
    """The application, ready to be served."""
    api, lookups, quoting, signing_in = Api(parts), Lookups(parts), Quoting(parts), SigningIn(parts)
    entry = OrderEntry(parts, api)
    app = web.Application(middlewares=[_middleware(parts)], client_max_size=limits.BODY_BYTES_MAX)
    app.add_routes(
        [
            web.post("/api/auth/signup", signing_in.sign_up),
            web.post("/api/auth/login", signing_in.log_in),
            web.post("/api/auth/password", signing_in.change_password),
            web.post("/api/auth/refresh", signing_in.renew),
            web.post("/api/auth/logout", signing_in.log_out),
            web.post("/api/auth/tickets", signing_in.make_ticket),
            web.post("/api/keys", signing_in.make_key),
            web.get("/api/keys", signing_in.list_keys),
            web.delete("/api/keys/{key_id}", signing_in.drop_key),
            web.post("/api/orders", api.place_order),
            web.post("/api/orders/batch", api.place_orders),
            web.post("/api/orders/cancel", api.cancel_orders),
            web.get("/api/orders", lookups.list_orders),
            web.get("/api/orders/by-client-id/{client_id}", lookups.get_by_client_id),
            web.get("/api/orders/{order_id}", lookups.get_order),
            web.get("/api/orders/{order_id}/events", lookups.get_events),
            web.delete("/api/orders/{order_id}", api.cancel_order),
            web.get("/api/events", lookups.events_after),
            web.get("/api/quotes", quoting.quote),
            web.get("/api/quotes/stream", quoting.stream, allow_head=False),
            web.get("/api/tokens", lookups.tokens),
            web.get(ENTRY_PATH, entry.handle, allow_head=False),
            web.get("/api/ws/{rest:.*}", api.web_socket, allow_head=False),
            web.get("/api/stream/{rest:.*}", api.event_stream, allow_head=False),
            *description_routes(),
            *health_routes(health),
        ]
    )

    async def end_the_endless(_app: web.Application) -> None:
        parts.tunnels.close()
        parts.quotes.closing.set()
        await entry.drain()

    # Before the server waits for requests in hand: a tunnel is one, and would last for ever.
    app.on_shutdown.append(end_the_endless)
    return app


def _middleware(parts: Parts) -> Middleware:
    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give the request its name, and whatever goes wrong its document."""
        started = time.perf_counter()
        request_id = request[REQUEST_ID] = request_id_of(request.headers.get("X-Request-Id"))
        try:
            if request.method in _SAFE and not request.path.startswith(_NOT_OF_STORES):
                response = await in_time(handler(request))
            else:
                response = preflight(request, parts.cors_origins) or await handler(request)
        except ConnectionResetError:
            raise  # the client has gone: nobody is left to answer
        except Exception as error:
            if isinstance(error, LogMismatch):
                parts.log_open.clear()
            problem = report(error, request)
            response = problem_response(problem, request.path, request_id)
        response.headers["X-Request-Id"] = request_id
        response.headers.update(rate_headers(request))
        if parts.cors_origins:
            response.headers.update(cors_headers(request, parts.cors_origins))
        if response.status != 101:  # a WebSocket's life is no answering time
            resource = request.match_info.route.resource
            route = resource.canonical if resource else "none"
            method = request.method if request.method in hdrs.METH_ALL else "other"
            observe.request_answered(method, route, response.status, time.perf_counter() - started)
        return response

    return answer
